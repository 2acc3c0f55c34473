//! Reads the text of a template. Each mistake is told with its place, so that whoever wrote it can be shown it.

use super::{Expression, Field, Hint, MAX_RENDERED, Sent, Template, TemplateError};
use http::HeaderName;
use std::ops::Range;

/// Calls deeper in each other than this were not written by anybody.
const MAX_DEPTH: usize = 32;

const FUNCTIONS: &[&str] = &[
    "header",
    "query",
    "cookie",
    "param",
    "request",
    "env",
    "uuid",
    "timestamp",
    "or",
    "eq",
    "neq",
    "concat",
    "upper",
    "lower",
    "len",
    "if_cond",
];

type Result<T> = std::result::Result<T, TemplateError>;

pub(super) fn template(text: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<Template> {
    let mut parser = Parser { text, at: 0, env };
    let mut pieces = Vec::new();
    let mut plain = String::new();
    while let Some(start) = text[parser.at..].find("${").map(|found| parser.at + found) {
        let before = &text[parser.at..start];
        parser.at = start + 2;
        if let Some(before) = before.strip_suffix('$') {
            plain.push_str(before);
            plain.push_str("${");
            continue;
        }
        plain.push_str(before);
        match parser.braces(start)? {
            Expression::Text(known) => plain.push_str(&known),
            expression => {
                pieces.extend(text_piece(std::mem::take(&mut plain)));
                pieces.push(expression);
            }
        }
    }
    plain.push_str(&text[parser.at..]);
    let is_too_long = plain.len() > MAX_RENDERED;
    pieces.extend(text_piece(plain));
    if is_too_long { Err(too_long(0..text.len())) } else { Ok(Template { pieces }) }
}

fn text_piece(text: String) -> Option<Expression> {
    (!text.is_empty()).then(|| Expression::Text(text.into()))
}

struct Parser<'t> {
    text: &'t str,
    at: usize,
    env: &'t dyn Fn(&str) -> Option<String>,
}

/// What stands between the brackets of a call.
struct Argument<'t> {
    span: Range<usize>,
    what: What<'t>,
}

enum What<'t> {
    /// A name without quotes: of a header, a field, a version.
    Word(&'t str),
    Value(Expression),
}

fn error<T>(span: Range<usize>, reason: impl Into<String>, hint: Hint) -> Result<T> {
    Err(TemplateError { span, reason: reason.into(), hint })
}

fn too_long(span: Range<usize>) -> TemplateError {
    let reason = format!("the text is longer than the {} KiB of a template", MAX_RENDERED / 1024);
    TemplateError { span, reason, hint: Hint::None }
}

impl<'t> Parser<'t> {
    /// What follows the `${` at `start`, with its `}`.
    fn braces(&mut self, start: usize) -> Result<Expression> {
        let argument = self.argument(start, 0)?;
        if !self.takes('}') {
            return match self.peek() {
                None => self.unclosed(start),
                Some(_) => error(self.here(), "expected `}` behind the expression", Hint::None),
            };
        }
        match argument {
            Argument { what: What::Word(word), span } if Field::of(word).is_none() => {
                let hint = format!(
                    "an environment variable is `${{env({word})}}`; for the text itself write `$${{{word}}}`"
                );
                error(span, format!("`{word}` is no template"), Hint::Text(hint))
            }
            argument => value(argument),
        }
    }

    fn unclosed<T>(&self, start: usize) -> Result<T> {
        let hint = "close it with `}`; for the characters themselves write `$${`";
        error(start..self.text.len(), "`${` is not closed", Hint::Text(hint.to_owned()))
    }

    /// A literal, a name, or a call; `start` is where its `${` is.
    fn argument(&mut self, start: usize, depth: usize) -> Result<Argument<'t>> {
        self.skip_blanks();
        let from = self.at;
        match self.peek() {
            None => self.unclosed(start),
            Some(quote @ ('\'' | '"')) => {
                let Some(length) = self.text[from + 1..].find(quote) else {
                    return error(from..self.text.len(), "the text in quotes is not closed", Hint::None);
                };
                self.at = from + length + 2;
                let text = &self.text[from + 1..self.at - 1];
                Ok(Argument { span: from..self.at, what: What::Value(Expression::Text(text.into())) })
            }
            Some(c) if is_word(c) => {
                let rest = &self.text[from..];
                self.at = from + rest.find(|c| !is_word(c)).unwrap_or(rest.len());
                let word = &self.text[from..self.at];
                let span = from..self.at;
                if !self.takes('(') {
                    return Ok(Argument { span, what: What::Word(word) });
                }
                if depth == MAX_DEPTH {
                    return error(span, format!("more than {MAX_DEPTH} calls in each other"), Hint::None);
                }
                let arguments = self.arguments(start, depth + 1)?;
                let value = Call { name: word, span, arguments, env: self.env }.expression()?;
                Ok(Argument { span: from..self.at, what: What::Value(fold(value, from..self.at)?) })
            }
            Some(_) => {
                let hint = "write a call such as `header(x-user)`, or text in quotes";
                error(self.here(), "expected a function", Hint::Text(hint.to_owned()))
            }
        }
    }

    /// The arguments of a call whose `(` was taken, with the `)`.
    fn arguments(&mut self, start: usize, depth: usize) -> Result<Vec<Argument<'t>>> {
        let mut arguments = Vec::new();
        if self.takes(')') {
            return Ok(arguments);
        }
        loop {
            arguments.push(self.argument(start, depth)?);
            if self.takes(')') {
                return Ok(arguments);
            }
            if !self.takes(',') {
                return match self.peek() {
                    None => self.unclosed(start),
                    Some(_) => error(self.here(), "expected `,` or `)`", Hint::None),
                };
            }
        }
    }

    fn skip_blanks(&mut self) {
        self.at = self.text.len() - self.text[self.at..].trim_start().len();
    }

    fn peek(&self) -> Option<char> {
        self.text[self.at..].chars().next()
    }

    /// Takes `c`, with the blanks before it, if it comes next.
    fn takes(&mut self, c: char) -> bool {
        self.skip_blanks();
        let found = self.peek() == Some(c);
        if found {
            self.at += c.len_utf8();
        }
        found
    }

    /// The next character.
    fn here(&self) -> Range<usize> {
        self.at..self.at + self.peek().map_or(0, char::len_utf8)
    }
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.')
}

/// A word on its own is a field of the request; any other text stands in quotes.
fn value(argument: Argument<'_>) -> Result<Expression> {
    match argument.what {
        What::Value(value) => Ok(value),
        What::Word(word) => match Field::of(word) {
            Some(field) => Ok(Expression::Request(field)),
            None => error(
                argument.span,
                format!("`{word}` is neither a call nor text in quotes"),
                Hint::Text(format!("write `'{word}'` for the text")),
            ),
        },
    }
}

/// A call whose operands are all known now is the text that it comes to.
fn fold(expression: Expression, span: Range<usize>) -> Result<Expression> {
    let known = |operands: &[Expression]| operands.iter().all(|it| matches!(it, Expression::Text(_)));
    let is_known = match &expression {
        Expression::Or(operands) | Expression::Concat(operands) => known(operands),
        Expression::Compare { operands, .. } => known(operands),
        Expression::If(operands) => known(&operands[..]),
        Expression::Upper(operand) | Expression::Lower(operand) | Expression::Len(operand) => {
            known(std::slice::from_ref(operand))
        }
        _ => false,
    };
    if !is_known {
        return Ok(expression);
    }
    let text = expression.known().map_err(|_| too_long(span))?;
    Ok(Expression::Text(text.into()))
}

/// A call with its arguments, not yet known to be right.
struct Call<'t> {
    name: &'t str,
    span: Range<usize>,
    arguments: Vec<Argument<'t>>,
    env: &'t dyn Fn(&str) -> Option<String>,
}

impl Call<'_> {
    fn expression(mut self) -> Result<Expression> {
        Ok(match self.name {
            "header" => self.sent(|name| HeaderName::from_bytes(name.as_bytes()).ok().map(Sent::Header))?,
            "query" => self.sent(|name| Some(Sent::Query(name.into())))?,
            "cookie" => self.sent(|name| Some(Sent::Cookie(name.into())))?,
            "param" => self.sent(|name| Some(Sent::Param(name.into())))?,
            "request" | "var" => {
                let (name, span) = self.count(1, 1)?.name()?;
                match Field::of(&name) {
                    Some(field) => Expression::Request(field),
                    None => {
                        let reason = format!("a request has no `{name}`");
                        return error(span, reason, Hint::OneOf(Field::NAMES));
                    }
                }
            }
            "env" => {
                let (name, _) = self.count(1, 1)?.name()?;
                Expression::Text((self.env)(&name).unwrap_or_default().into())
            }
            "uuid" => {
                let (name, span) = self.count(1, 1)?.name()?;
                match &*name {
                    "v4" => Expression::UuidV4,
                    "v7" => Expression::UuidV7,
                    name => {
                        let reason = format!("unknown version of a UUID: `{name}`");
                        return error(span, reason, Hint::OneOf(&["v4", "v7"]));
                    }
                }
            }
            "timestamp" => {
                self.count(0, 0)?;
                Expression::Timestamp
            }
            "or" => Expression::Or(self.count(1, usize::MAX)?.values()?),
            "concat" => Expression::Concat(self.count(1, usize::MAX)?.values()?),
            "eq" => Expression::Compare { wanted: true, operands: self.count(2, 3)?.values()? },
            "neq" => Expression::Compare { wanted: false, operands: self.count(2, 3)?.values()? },
            "upper" => Expression::Upper(self.count(1, 1)?.one()?),
            "lower" => Expression::Lower(self.count(1, 1)?.one()?),
            "len" => Expression::Len(self.count(1, 1)?.one()?),
            "if_cond" => {
                let operands = self.count(3, 3)?.values()?;
                Expression::If(Box::new(operands.try_into().expect("counted: three operands")))
            }
            name => {
                let reason = format!("unknown template function: `{name}`");
                return error(self.span, reason, Hint::OneOf(FUNCTIONS));
            }
        })
    }

    /// Checks how many arguments there are.
    fn count(&mut self, least: usize, most: usize) -> Result<&mut Self> {
        let found = self.arguments.len();
        if (least..=most).contains(&found) {
            return Ok(self);
        }
        let wanted = match (least, most) {
            (0, 0) => "no argument".to_owned(),
            (1, 1) => "one argument".to_owned(),
            (least, usize::MAX) => format!("at least {least}"),
            (least, most) if least == most => format!("{least} arguments"),
            (least, most) => format!("{least} or {most} arguments"),
        };
        error(self.span.clone(), format!("`{}` takes {wanted}, found {found}", self.name), Hint::None)
    }

    /// Something with a name, and perhaps a default.
    fn sent(&mut self, of: impl FnOnce(&str) -> Option<Sent>) -> Result<Expression> {
        let default = self.count(1, 2)?.arguments.drain(1..).next().map(value).transpose()?;
        let (name, span) = self.name()?;
        match of(&name) {
            Some(sent) => Ok(Expression::Sent(sent, default.map(Box::new))),
            None => error(span, format!("`{name}` is no {} name", self.name), Hint::None),
        }
    }

    /// The last argument, which names something.
    fn name(&mut self) -> Result<(Box<str>, Range<usize>)> {
        let Argument { span, what } = self.arguments.pop().expect("counted: one argument at least");
        match what {
            What::Word(word) => Ok((word.into(), span)),
            What::Value(Expression::Text(text)) => Ok((text, span)),
            What::Value(_) => {
                let reason = format!("`{}` takes a name, which has to be known beforehand", self.name);
                error(span, reason, Hint::None)
            }
        }
    }

    fn values(&mut self) -> Result<Vec<Expression>> {
        self.arguments.drain(..).map(value).collect()
    }

    fn one(&mut self) -> Result<Box<Expression>> {
        value(self.arguments.pop().expect("counted: one argument")).map(Box::new)
    }
}
