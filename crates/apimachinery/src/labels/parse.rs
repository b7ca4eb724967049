//! The text form of a selector. Grammar and messages as in upstream's `labels.Parse`: keywords are
//! `in` and `notin`, which are plain words where a value stands.

use super::{Error, Operator, Requirement, key_error};
use crate::field::Path;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Token {
    Error,
    End,
    Close,
    Comma,
    Not,
    DoubleEquals,
    Equals,
    Greater,
    Word,
    In,
    Less,
    NotEquals,
    NotIn,
    Open,
}

fn keyword(text: &[u8]) -> Option<Token> {
    Some(match text {
        b")" => Token::Close,
        b"," => Token::Comma,
        b"!" => Token::Not,
        b"==" => Token::DoubleEquals,
        b"=" => Token::Equals,
        b">" => Token::Greater,
        b"in" => Token::In,
        b"<" => Token::Less,
        b"!=" => Token::NotEquals,
        b"notin" => Token::NotIn,
        b"(" => Token::Open,
        _ => return None,
    })
}

fn space(b: u8) -> bool {
    matches!(b, b' ' | b'\t' | b'\r' | b'\n')
}

fn symbol(b: u8) -> bool {
    matches!(b, b'=' | b'!' | b'(' | b')' | b',' | b'>' | b'<')
}

/// One token from the front of `text`, and how many bytes it took. A NUL byte ends the text.
fn lex(text: &[u8]) -> (Token, String, usize) {
    let start = text.iter().position(|b| !space(*b)).unwrap_or(text.len());
    let rest = &text[start..];
    let literal = |len: usize| String::from_utf8_lossy(&rest[..len]).into_owned();
    match rest.first() {
        None | Some(0) => (Token::End, String::new(), text.len()),
        Some(b) if symbol(*b) => {
            // no keyword is longer; to look further each time would take the square of a long run
            let run = rest.iter().take(3).take_while(|b| symbol(**b)).count();
            // the longest prefix such that it and all shorter ones from the first known one on are known
            let first = (1..=run).find(|len| keyword(&rest[..*len]).is_some());
            let Some(first) = first else {
                return (
                    Token::Error,
                    format!("error expected: keyword found '{}'", literal(run)),
                    start + run,
                );
            };
            let last =
                (first..=run).take_while(|len| keyword(&rest[..*len]).is_some()).last().unwrap_or(first);
            (keyword(&rest[..last]).unwrap_or(Token::Error), literal(last), start + last)
        }
        Some(_) => {
            let stop = |b: &u8| symbol(*b) || space(*b) || *b == 0;
            let len = rest.iter().position(stop).unwrap_or(rest.len());
            let past = len + usize::from(rest.get(len) == Some(&0));
            (keyword(&rest[..len]).unwrap_or(Token::Word), literal(len), start + past)
        }
    }
}

struct Parser<'a> {
    tokens: Vec<(Token, String)>,
    at: usize,
    path: &'a Path<'a>,
}

/// The requirements in the order of the text.
pub(super) fn parse(text: &str, path: &Path<'_>) -> Result<Vec<Requirement>, Error> {
    let mut tokens = Vec::new();
    let mut rest = text.as_bytes();
    loop {
        let (token, literal, taken) = lex(rest);
        tokens.push((token, literal));
        if token == Token::End {
            break;
        }
        rest = &rest[taken..];
    }
    Parser { tokens, at: 0, path }.all()
}

fn error<T>(message: String) -> Result<T, Error> {
    Err(Error(message))
}

impl Parser<'_> {
    /// The next token where an operator may stand.
    fn operator(&mut self) -> (Token, String) {
        let item = self.tokens.get(self.at).cloned().unwrap_or((Token::End, String::new()));
        self.at += 1;
        item
    }

    /// The next token where a key or value may stand.
    fn next(&mut self) -> (Token, String) {
        let (token, literal) = self.operator();
        (as_word(token), literal)
    }

    fn peek(&self) -> (Token, &str) {
        self.tokens.get(self.at).map_or((Token::End, ""), |(token, literal)| (as_word(*token), literal))
    }

    fn all(&mut self) -> Result<Vec<Requirement>, Error> {
        let mut requirements = Vec::new();
        loop {
            match self.peek() {
                (Token::Word | Token::Not, _) => {
                    let requirement =
                        self.requirement().map_err(|e| Error(format!("unable to parse requirement: {e}")))?;
                    requirements.push(requirement);
                    match self.next() {
                        (Token::End, _) => return Ok(requirements),
                        (Token::Comma, _) => {
                            let (token, literal) = self.peek();
                            if !matches!(token, Token::Word | Token::Not) {
                                return error(format!("found '{literal}', expected: identifier after ','"));
                            }
                        }
                        (_, l) => return error(format!("found '{l}', expected: ',' or 'end of string'")),
                    }
                }
                (Token::End, _) => return Ok(requirements),
                (_, l) => return error(format!("found '{l}', expected: !, identifier, or 'end of string'")),
            }
        }
    }

    fn requirement(&mut self) -> Result<Requirement, Error> {
        let (mut token, mut key) = self.next();
        let absent = token == Token::Not;
        if absent {
            (token, key) = self.next();
        }
        if token != Token::Word {
            return error(format!("found '{key}', expected: identifier"));
        }
        if let Some(fault) = key_error(&key, self.path) {
            return error(fault.to_string());
        }
        let bare = matches!(self.peek().0, Token::End | Token::Comma);
        if absent {
            return Requirement::at(self.path, &key, Operator::DoesNotExist, Vec::new());
        }
        if bare {
            return Requirement::at(self.path, &key, Operator::Exists, Vec::new());
        }
        let operator = match self.operator() {
            (Token::In, _) => Operator::In,
            (Token::Equals, _) => Operator::Equals,
            (Token::DoubleEquals, _) => Operator::DoubleEquals,
            (Token::Greater, _) => Operator::GreaterThan,
            (Token::Less, _) => Operator::LessThan,
            (Token::NotIn, _) => Operator::NotIn,
            (Token::NotEquals, _) => Operator::NotEquals,
            (_, l) => return error(format!("found '{l}', expected: in, notin, =, ==, !=, gt, lt")),
        };
        let mut values = match operator {
            Operator::In | Operator::NotIn => self.values()?,
            _ => vec![self.exact()?],
        };
        values.sort_unstable();
        values.dedup();
        Requirement::at(self.path, &key, operator, values)
    }

    fn values(&mut self) -> Result<Vec<String>, Error> {
        let (token, literal) = self.next();
        if token != Token::Open {
            return error(format!("found '{literal}' expected: '('"));
        }
        match self.peek() {
            (Token::Word | Token::Comma, _) => {
                let values = self.list()?;
                self.at += 1; // list() has seen the closing parenthesis
                Ok(values)
            }
            (Token::Close, _) => {
                self.at += 1;
                Ok(vec![String::new()])
            }
            (_, l) => error(format!("found '{l}', expected: ',', ')' or identifier")),
        }
    }

    /// Values up to the closing parenthesis; nothing between commas is the empty value.
    fn list(&mut self) -> Result<Vec<String>, Error> {
        let mut values = Vec::new();
        loop {
            match self.next() {
                (Token::Word, literal) => {
                    values.push(literal);
                    match self.peek() {
                        (Token::Comma, _) => continue,
                        (Token::Close, _) => return Ok(values),
                        (_, l) => return error(format!("found '{l}', expected: ',' or ')'")),
                    }
                }
                (Token::Comma, _) => {
                    if values.is_empty() {
                        values.push(String::new());
                    }
                    match self.peek().0 {
                        Token::Close => {
                            values.push(String::new());
                            return Ok(values);
                        }
                        Token::Comma => values.push(String::new()),
                        _ => {}
                    }
                }
                (_, l) => return error(format!("found '{l}', expected: ',', or identifier")),
            }
        }
    }

    fn exact(&mut self) -> Result<String, Error> {
        if matches!(self.peek().0, Token::End | Token::Comma) {
            return Ok(String::new());
        }
        match self.next() {
            (Token::Word, literal) => Ok(literal),
            (_, l) => error(format!("found '{l}', expected: identifier")),
        }
    }
}

fn as_word(token: Token) -> Token {
    match token {
        Token::In | Token::NotIn => Token::Word,
        token => token,
    }
}
