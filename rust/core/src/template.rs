//! Text with parts that come from the request: `user-${header(x-user)}`.
//!
//! A template is parsed once, when a configuration is loaded, and rendered for each request. What is known at load
//! (literals, environment variables, functions of those) is worked out there, so that a template without a part from
//! the request is plain text. A rendered value is data: it is never parsed again, whatever the client put into it, and
//! it is no longer than [`MAX_RENDERED`].

/// From text to template.
mod parse;
/// From template to text, for one exchange.
mod render;

use http::HeaderName;
use std::fmt;
use std::ops::Range;

/// The longest text that a template, or a part of one, renders to, in bytes.
pub const MAX_RENDERED: usize = 64 * 1024;

/// A parsed template. Its `Display` is a text that parses to the same template.
#[derive(Clone, Debug, PartialEq)]
pub struct Template {
    /// No two texts beside each other, and no empty one: equal templates look the same.
    pieces: Vec<Expression>,
}

/// What is wrong with the text of a template.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{reason}")]
pub struct TemplateError {
    /// Which bytes of the text are meant.
    pub span: Range<usize>,
    /// What is wrong with them.
    pub reason: String,
    /// What to do about it.
    pub hint: Hint,
}

/// What to write instead.
#[derive(Clone, Debug, PartialEq)]
pub enum Hint {
    /// Nothing that the reason does not say.
    None,
    /// In words.
    Text(String),
    /// One of these, and most likely the one that looks like the text in question.
    OneOf(&'static [&'static str]),
}

/// A template, or a part of one, rendered to more than [`MAX_RENDERED`] bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a template renders to more than {} KiB for this request", MAX_RENDERED / 1024)]
pub struct TooLong;

/// What stands between `${` and `}`, or the text around it.
#[derive(Clone, Debug, PartialEq)]
enum Expression {
    Text(Box<str>),
    /// A value that the client may have sent, and what to take where it has not.
    Sent(Sent, Option<Box<Expression>>),
    Request(Field),
    UuidV4,
    UuidV7,
    Timestamp,
    Or(Vec<Expression>),
    /// `eq` or, with `wanted` false, `neq`: the last operand (the first, without a third) where it holds.
    Compare {
        wanted: bool,
        operands: Vec<Expression>,
    },
    Concat(Vec<Expression>),
    Upper(Box<Expression>),
    Lower(Box<Expression>),
    Len(Box<Expression>),
    If(Box<[Expression; 3]>),
}

#[derive(Clone, Debug, PartialEq)]
enum Sent {
    Header(HeaderName),
    Query(Box<str>),
    Cookie(Box<str>),
    Param(Box<str>),
}

macro_rules! fields {
    ($($name:literal => $field:ident,)+) => {
        /// What `request(...)` can name.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        enum Field { $($field,)+ }

        impl Field {
            const NAMES: &[&str] = &[$($name,)+];

            fn of(name: &str) -> Option<Field> {
                match name {
                    $($name => Some(Field::$field),)+
                    _ => None,
                }
            }

            fn name(self) -> &'static str {
                match self {
                    $(Field::$field => $name,)+
                }
            }
        }
    };
}

fields! {
    "client_ip" => ClientIp,
    "host" => Host,
    "id" => Id,
    "method" => Method,
    "path" => Path,
    "query" => Query,
    "scheme" => Scheme,
    "tls" => Tls,
}

impl Template {
    /// Parses `text`. `env` looks an environment variable up: `env(NAME)` has the value of this moment for ever.
    ///
    /// # Errors
    /// What is wrong first, and where.
    pub fn parse(text: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<Template, TemplateError> {
        parse::template(text, env)
    }

    /// The text, where no part of it comes from a request.
    pub fn constant(&self) -> Option<&str> {
        match &self.pieces[..] {
            [] => Some(""),
            [Expression::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// Whether it renders to the same text for every request.
    pub fn is_constant(&self) -> bool {
        self.constant().is_some()
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, piece) in self.pieces.iter().enumerate() {
            let Expression::Text(text) = piece else {
                write!(f, "${{{piece}}}")?;
                continue;
            };
            let last = index + 1 == self.pieces.len();
            // A dollar before `${` would make it the escape.
            let plain = if last { text } else { text.trim_end_matches('$') };
            f.write_str(&plain.replace("${", "$${"))?;
            if plain.len() < text.len() {
                write!(f, "${{'{}'}}", &text[plain.len()..])?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let call = |f: &mut fmt::Formatter<'_>, name: &str, operands: &[Expression]| {
            write!(f, "{name}(")?;
            for (index, operand) in operands.iter().enumerate() {
                write!(f, "{}{operand}", if index > 0 { ", " } else { "" })?;
            }
            f.write_str(")")
        };
        match self {
            Expression::Text(text) => literal(text, f),
            Expression::Sent(sent, default) => {
                let (function, name) = match sent {
                    Sent::Header(name) => ("header", name.as_str()),
                    Sent::Query(name) => ("query", &**name),
                    Sent::Cookie(name) => ("cookie", &**name),
                    Sent::Param(name) => ("param", &**name),
                };
                write!(f, "{function}(")?;
                literal(name, f)?;
                match default {
                    Some(default) => write!(f, ", {default})"),
                    None => f.write_str(")"),
                }
            }
            Expression::Request(field) => write!(f, "request({})", field.name()),
            Expression::UuidV4 => f.write_str("uuid(v4)"),
            Expression::UuidV7 => f.write_str("uuid(v7)"),
            Expression::Timestamp => f.write_str("timestamp()"),
            Expression::Or(operands) => call(f, "or", operands),
            Expression::Compare { wanted, operands } => call(f, if *wanted { "eq" } else { "neq" }, operands),
            Expression::Concat(operands) => call(f, "concat", operands),
            Expression::Upper(operand) => write!(f, "upper({operand})"),
            Expression::Lower(operand) => write!(f, "lower({operand})"),
            Expression::Len(operand) => write!(f, "len({operand})"),
            Expression::If(operands) => call(f, "if_cond", &operands[..]),
        }
    }
}

/// Text in quotes. One with both kinds of them is put together from texts with one kind each.
fn literal(text: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    if !text.contains('\'') {
        return write!(f, "'{text}'");
    }
    if !text.contains('"') {
        return write!(f, "\"{text}\"");
    }
    f.write_str("concat(")?;
    for (index, part) in text.split('"').enumerate() {
        write!(f, "{}\"{part}\"", if index > 0 { ", '\"', " } else { "" })?;
    }
    f.write_str(")")
}
