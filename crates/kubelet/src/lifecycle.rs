//! The hooks of a container: after it was started, before it is stopped.

use std::time::Duration;

use api::core::v1::{Container, LifecycleHandler, Pod};

use crate::http_get;
use crate::images::describe;
use crate::pod::spec;

/// Runs a hook to its end. The error is for the container's status, never for events: it may hold secrets.
pub async fn run(
    client: &cri::Client,
    id: &str,
    ip: &str,
    pod: &Pod,
    container: &Container,
    handler: &LifecycleHandler,
) -> Result<(), String> {
    let whose = format!("for Container {:?} in Pod {:?} failed - error: ", container.name, spec::full(pod));
    if let Some(exec) = &handler.exec {
        let command = exec.command.clone().unwrap_or_default();
        let shown = command.join(" ");
        let answer = client.exec_sync(id, &command, Duration::ZERO).await;
        let answer = answer
            .map_err(|e| format!("Exec lifecycle hook ([{shown}]) {whose}{}, message: \"\"", describe(&e)))?;
        if answer.exit_code != 0 {
            let mut output = answer.stdout;
            output.extend_from_slice(&answer.stderr);
            let (code, output) = (answer.exit_code, String::from_utf8_lossy(&output).into_owned());
            return Err(format!(
                "Exec lifecycle hook ([{shown}]) {whose}command '{shown}' exited with {code}: {output}, message: {output:?}"
            ));
        }
        Ok(())
    } else if let Some(action) = &handler.http_get {
        let path = action.path.as_deref().unwrap_or_default();
        let failed = |e: String| format!("HTTP lifecycle hook ({path}) {whose}{e}");
        let target = http_get::target(action, container, ip, "lifecycle").map_err(failed)?;
        // Any answer will do.
        http_get::get(&target, Duration::from_secs(30)).await.map(drop).map_err(failed)
    } else if let Some(sleep) = &handler.sleep {
        tokio::time::sleep(Duration::from_secs(u64::try_from(sleep.seconds).unwrap_or_default())).await;
        Ok(())
    } else {
        Err("Cannot run handler: invalid handler".into())
    }
}
