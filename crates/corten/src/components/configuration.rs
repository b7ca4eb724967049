//! Configuration files of components: what is read, what is refused.

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Decodes a file of this version and kind. `unbuilt` are upstream's other fields: tools write them without a value
/// (`null`, `""`, `0s`, objects of nothing else), which asks for nothing; with a value they are an error, as every
/// field is that neither `T` nor upstream knows.
pub fn decode<T: DeserializeOwned>(text: &str, api_version: &str, kind: &str, unbuilt: &[&str]) -> Result<T> {
    let mut value: Value = serde_saphyr::from_str(text).context("decoding it")?;
    let object = value.as_object_mut().context("it is no object")?;
    let (version, is) = (object.remove("apiVersion"), object.remove("kind"));
    if version != Some(api_version.into()) || is != Some(kind.into()) {
        bail!("it is no {kind} of {api_version}");
    }
    for field in unbuilt {
        if let Some(given) = object.remove(*field)
            && !unset(&given, false)
        {
            bail!("{field} is not built");
        }
    }
    serde_json::from_value(value).context("decoding it")
}

/// Fields of numbers and truth values within others have no other way to say nothing than zero and false.
fn unset(value: &Value, within: bool) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(given) => within && !given,
        Value::Number(number) => within && number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty() || text == "0s" || (within && text == "0"),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.values().all(|value| unset(value, true)),
    }
}

/// How a component reaches the API server. Rates are not limited on this side: the server has its own fairness.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ClientConnection {
    pub kubeconfig: String,
    accept_content_types: String,
    content_type: String,
    qps: f64,
    burst: i64,
}

impl ClientConnection {
    pub fn check(&self) -> Result<()> {
        for text in [&self.accept_content_types, &self.content_type] {
            if !matches!(text.as_str(), "" | "application/json") {
                bail!("clientConnection: {text:?} is not built, only application/json");
            }
        }
        if self.qps != 0.0 || self.burst != 0 {
            bail!("clientConnection: qps and burst are not built");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unbuilt_fields() {
        let check = |body: &str, expect: Result<(), &str>| {
            let text = format!("apiVersion: v\nkind: K\n{body}");
            match (decode::<ClientConnection>(&text, "v", "K", &["logging", "tracing"]), expect) {
                (Ok(_), Ok(())) => {}
                (Err(error), Err(words)) => {
                    assert!(format!("{error:#}").contains(words), "{body}: {error:#}")
                }
                (got, _) => panic!("{body}: {got:?}"),
            }
        };
        check("kubeconfig: /a", Ok(()));
        check("logging: {verbosity: 0, options: {json: {infoBufferSize: '0'}}}\ntracing: null", Ok(()));
        check("logging: {verbosity: 3}", Err("logging is not built"));
        check("tracing: 0", Err("tracing is not built"));
        check("kubeconfg: /a", Err("kubeconfg"));
        assert!(decode::<ClientConnection>("kind: K\napiVersion: w\n", "v", "K", &[]).is_err());
        let limited = ClientConnection { qps: 5.0, ..ClientConnection::default() };
        assert!(limited.check().is_err());
    }
}
