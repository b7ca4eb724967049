//! How a command ended: what the server's error stream says, and what the client is told.

use apimachinery::status::{Cause, Details, Status};

const NON_ZERO: &str = "NonZeroExitCode";
const EXIT_CODE: &str = "ExitCode";

/// Ended well, or how not. An exit code other than 0 is a failure with the reason `NonZeroExitCode`.
pub type Outcome = Result<(), Box<Status>>;

/// What the error stream says, of a server that speaks `protocol`. Nothing at all means well.
pub fn of_error_stream(protocol: Option<&str>, message: &[u8]) -> Outcome {
    if message.is_empty() {
        return Ok(());
    }
    if !has_status(protocol) {
        let text = String::from_utf8_lossy(message);
        return Err(Status::internal(format_args!("error executing remote command: {text}")).into());
    }
    let failed = |what: std::fmt::Arguments<'_>| {
        Err(Status::internal(format_args!("error stream protocol error: {what}")).into())
    };
    let status: Status = match serde_json::from_slice(message) {
        Ok(status) => status,
        Err(error) => return failed(format_args!("{error} in {:?}", String::from_utf8_lossy(message))),
    };
    match &*status.status {
        "Success" => return Ok(()),
        "Failure" => {}
        _ => return failed(format_args!("unknown error")),
    }
    if status.reason != NON_ZERO {
        return Err(Status::internal(&status.message).into());
    }
    let Some(details) = &status.details else { return failed(format_args!("details must be set")) };
    let Some(cause) = details.causes.iter().find(|cause| cause.kind == EXIT_CODE) else {
        return failed(format_args!("no {EXIT_CODE} cause given"));
    };
    match cause.message.parse::<u8>() {
        Ok(code) => Err(exit(code).into()),
        Err(_) => failed(format_args!("invalid exit code value {:?}", cause.message)),
    }
}

/// From version 4 on the error stream carries a Status, and always does.
pub fn has_status(protocol: Option<&str>) -> bool {
    matches!(protocol, Some("v5.channel.k8s.io" | "v4.channel.k8s.io"))
}

fn exit(code: u8) -> Status {
    let cause = Cause { kind: EXIT_CODE.into(), message: code.to_string(), ..Cause::default() };
    let message =
        format!("command terminated with non-zero exit code: command terminated with exit code {code}");
    Status::failure(0, NON_ZERO, message).with_details(Details { causes: vec![cause], ..Details::default() })
}

/// The Status on the client's error channel, as upstream writes it: without its kind.
pub fn json(outcome: &Outcome) -> Vec<u8> {
    let success = Status::success(None);
    let status = outcome.as_ref().err().map_or(&success, |status| &**status);
    let mut value = serde_json::to_value(status).unwrap_or_default();
    if let Some(fields) = value.as_object_mut() {
        fields.remove("kind");
        fields.remove("apiVersion");
    }
    serde_json::to_vec(&value).unwrap_or_default()
}

/// The code under which it is counted. A command that ran and failed is no failure of ours.
pub fn code(outcome: &Outcome) -> u16 {
    outcome.as_ref().err().filter(|status| status.code != 0).map_or(200, |status| status.code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_streams() {
        let exit = r#"{"metadata":{},"status":"Failure","message":"command terminated with non-zero exit code: command terminated with exit code 3","reason":"NonZeroExitCode","details":{"causes":[{"reason":"ExitCode","message":"3"}]}}"#;
        let broken = |why: &str| {
            let message = format!("Internal error occurred: {why}");
            serde_json::json!({"metadata": {}, "status": "Failure", "message": message,
                "reason": "InternalError", "details": {"causes": [{"message": why}]}, "code": 500})
        };
        let exited = |value: &str| {
            format!(
                r#"{{"status":"Failure","reason":"NonZeroExitCode","details":{{"causes":[{{"reason":"x"}},{{"reason":"ExitCode","message":"{value}"}}]}}}}"#
            )
        };
        let success = serde_json::json!({"metadata": {}, "status": "Success"});
        let v4 = Some("v4.channel.k8s.io");
        for (protocol, message, expect, expect_code) in [
            (v4, String::new(), success.clone(), 200),
            (v4, r#"{"metadata":{},"status":"Success"}"#.into(), success.clone(), 200),
            (v4, exited("3"), serde_json::from_str(exit).unwrap(), 200),
            (v4, exited("256"), broken("error stream protocol error: invalid exit code value \"256\""), 500),
            (
                v4,
                r#"{"status":"Failure","reason":"NonZeroExitCode"}"#.into(),
                broken("error stream protocol error: details must be set"),
                500,
            ),
            (
                v4,
                r#"{"status":"Failure","reason":"NonZeroExitCode","details":{}}"#.into(),
                broken("error stream protocol error: no ExitCode cause given"),
                500,
            ),
            (v4, r#"{"status":"Failure","message":"no such file"}"#.into(), broken("no such file"), 500),
            (v4, "{}".into(), broken("error stream protocol error: unknown error"), 500),
            (None, "exit status 3".into(), broken("error executing remote command: exit status 3"), 500),
            (Some("v3.channel.k8s.io"), String::new(), success, 200),
        ] {
            let outcome = of_error_stream(protocol, message.as_bytes());
            let got: serde_json::Value = serde_json::from_slice(&json(&outcome)).unwrap();
            assert_eq!((got, code(&outcome)), (expect, expect_code), "{message}");
        }
        assert!(of_error_stream(v4, b"exit status 1").unwrap_err().message.contains("in \"exit status 1\""));
    }
}
