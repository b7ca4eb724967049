//! `--token-auth-file`: lines of `token,user,uid,"group1,group2"`.

use std::collections::HashMap;
use std::sync::Arc;

use super::{UserInfo, authenticated};

/// Why a token file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("token file line {0}: at least token, user name and user uid are needed")]
    TooFewColumns(usize),
    #[error("token file line {0}: empty token")]
    EmptyToken(usize),
}

/// The users by their tokens.
#[derive(Debug, Default)]
pub struct Tokens(HashMap<String, Arc<UserInfo>>);

impl Tokens {
    pub fn parse(text: &str) -> Result<Self, Error> {
        let mut tokens = HashMap::new();
        for (i, line) in text.lines().enumerate() {
            if line.trim().is_empty() || line.starts_with('#') {
                continue;
            }
            let columns = columns(line);
            let [token, name, uid, rest @ ..] = columns.as_slice() else {
                return Err(Error::TooFewColumns(i + 1));
            };
            if token.is_empty() {
                return Err(Error::EmptyToken(i + 1));
            }
            let groups: Vec<&str> = match rest.first() {
                // An empty column is one group without a name, to upstream too.
                Some(groups) => groups.split(',').collect(),
                None => Vec::new(),
            };
            let user = UserInfo { uid: uid.clone(), ..UserInfo::new(name, &groups) };
            tokens.insert(token.clone(), authenticated(user));
        }
        Ok(Self(tokens))
    }

    pub fn get(&self, token: &str) -> Option<Arc<UserInfo>> {
        self.0.get(token).cloned()
    }
}

/// A line of comma-separated values; a column in double quotes may hold commas, and quotes doubled.
fn columns(line: &str) -> Vec<String> {
    let mut out = vec![String::new()];
    let mut quoted = false;
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                if let Some(last) = out.last_mut() {
                    last.push('"');
                }
            }
            '"' => quoted = !quoted,
            ',' if !quoted => out.push(String::new()),
            c => {
                if let Some(last) = out.last_mut() {
                    last.push(c);
                }
            }
        }
    }
    out.iter().map(|c| c.trim_start().to_owned()).collect()
}
