//! Renders a template for one exchange. Every value on the way is bounded, so that a template which uses what the
//! client sent many times over does not multiply it.

use super::{Expression, Field, MAX_RENDERED, Sent, Template, TooLong};
use crate::exchange::Exchange;
use crate::head::{TargetPart, cookie, joined};
use std::borrow::Cow;
use std::time::SystemTime;

type Value<'a> = Result<Cow<'a, str>, TooLong>;

impl Template {
    /// The text for this exchange, as it is now.
    ///
    /// # Errors
    /// The text, or a part of it, would be longer than [`MAX_RENDERED`].
    pub fn render(&self, exchange: &Exchange) -> Result<String, TooLong> {
        match &self.pieces[..] {
            [one] => one.value(Some(exchange)).map(Cow::into_owned),
            pieces => concat(pieces, Some(exchange)),
        }
    }
}

impl Expression {
    /// What it comes to where all its operands are texts: it asks for no exchange.
    pub(super) fn known(&self) -> Result<String, TooLong> {
        self.value(None).map(Cow::into_owned)
    }

    fn value<'a>(&'a self, exchange: Option<&'a Exchange>) -> Value<'a> {
        let value = match self {
            Expression::Text(text) => Cow::Borrowed(&**text),
            Expression::Sent(sent, default) => match (exchange.and_then(|it| sent.find(it)), default) {
                (Some(found), _) => found,
                (None, Some(default)) => default.value(exchange)?,
                (None, None) => Cow::Borrowed(""),
            },
            Expression::Request(field) => exchange.map(|it| field.of_exchange(it)).unwrap_or_default(),
            Expression::UuidV4 => Cow::Owned(uuid::Uuid::new_v4().to_string()),
            Expression::UuidV7 => Cow::Owned(uuid::Uuid::now_v7().to_string()),
            Expression::Timestamp => {
                Cow::Owned(humantime::format_rfc3339_millis(SystemTime::now()).to_string())
            }
            Expression::Or(operands) => {
                for operand in operands {
                    let value = operand.value(exchange)?;
                    if !value.is_empty() {
                        return Ok(value);
                    }
                }
                Cow::Borrowed("")
            }
            Expression::Compare { wanted, operands } => {
                let [left, right, then @ ..] = &operands[..] else { return Ok(Cow::Borrowed("")) };
                let left = left.value(exchange)?;
                if (left == right.value(exchange)?) != *wanted {
                    return Ok(Cow::Borrowed(""));
                }
                match then {
                    [then] => then.value(exchange)?,
                    _ => left,
                }
            }
            Expression::Concat(operands) => Cow::Owned(concat(operands, exchange)?),
            Expression::Upper(operand) => Cow::Owned(operand.value(exchange)?.to_uppercase()),
            Expression::Lower(operand) => Cow::Owned(operand.value(exchange)?.to_lowercase()),
            Expression::Len(operand) => Cow::Owned(operand.value(exchange)?.chars().count().to_string()),
            Expression::If(operands) => {
                let [condition, then, otherwise] = &**operands;
                let holds = !condition.value(exchange)?.is_empty();
                if holds { then.value(exchange)? } else { otherwise.value(exchange)? }
            }
        };
        if value.len() > MAX_RENDERED { Err(TooLong) } else { Ok(value) }
    }
}

fn concat(parts: &[Expression], exchange: Option<&Exchange>) -> Result<String, TooLong> {
    let mut whole = String::new();
    for part in parts {
        let value = part.value(exchange)?;
        if whole.len() + value.len() > MAX_RENDERED {
            return Err(TooLong);
        }
        whole.push_str(&value);
    }
    Ok(whole)
}

impl Sent {
    fn find<'a>(&self, exchange: &'a Exchange) -> Option<Cow<'a, str>> {
        let request = &exchange.request;
        match self {
            Sent::Header(name) => joined(&request.headers, name, |value| {
                Cow::Owned(String::from_utf8_lossy(value).into_owned())
            }),
            Sent::Query(name) => {
                let query = request.query.as_ref()?.as_str();
                let mut pairs = form_urlencoded::parse(query.as_bytes());
                pairs.find(|(known, _)| *known == **name).map(|(_, value)| value)
            }
            Sent::Cookie(name) => cookie(&request.headers, name).map(String::from_utf8_lossy),
            Sent::Param(name) => {
                let mut params = exchange.facts.params.iter();
                params.find(|(known, _)| *known == &**name).map(|(_, value)| Cow::Borrowed(value))
            }
        }
    }
}

impl Field {
    fn of_exchange(self, exchange: &Exchange) -> Cow<'_, str> {
        let (facts, request) = (&exchange.facts, &exchange.request);
        match self {
            Field::ClientIp => Cow::Owned(facts.client_ip.to_string()),
            Field::Host => Cow::Borrowed(facts.host.as_str()),
            Field::Id => Cow::Owned(facts.id.to_string()),
            Field::Method => Cow::Borrowed(request.method.as_str()),
            Field::Path => Cow::Borrowed(request.path.as_str()),
            Field::Query => Cow::Borrowed(request.query.as_ref().map_or("", TargetPart::as_str)),
            Field::Scheme => Cow::Borrowed(facts.scheme.name()),
            Field::Tls => Cow::Borrowed(if facts.scheme == crate::Scheme::Https { "true" } else { "" }),
        }
    }
}
