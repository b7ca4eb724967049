//! `/containerLogs/NAMESPACE/POD/CONTAINER`.

use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::time::Duration;

use api::core::v1::{ContainerStatus, PodStatus};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use jiff::{SignedDuration, Timestamp};

use super::{Body, Shared, query, text};
use crate::logs::{Formatter, Options, tail_offset};
use crate::pod::observed::{State, state};
use crate::pod::spec;

/// How often a log that is followed is looked at.
const LOOK: Duration = Duration::from_millis(100);
const BLOCK: usize = 64 << 10;

pub async fn answer(
    request: &Request<Incoming>,
    shared: &Shared,
    namespace: &str,
    pod_name: &str,
    container: &str,
) -> Response<Body> {
    let (options, previous) = match options(&query(request.uri()), shared.context.clock.now()) {
        Ok(options) => options,
        Err(refused) => return refused,
    };
    let Some(handle) = shared.pods.find(namespace, pod_name) else {
        return text(StatusCode::NOT_FOUND, format!("pod {pod_name:?} does not exist\n"));
    };
    let pod = handle.pod();
    if spec::container(&pod, container).is_none() {
        return text(
            StatusCode::NOT_FOUND,
            format!("container {container:?} not found in pod {pod_name:?}\n"),
        );
    }
    let id = match container_id(&handle.status(), pod_name, container, previous) {
        Ok(id) => id,
        Err(error) => return text(StatusCode::BAD_REQUEST, error),
    };
    let client = shared.context.runtime.client.clone();
    let path = match client.container_status(&id).await {
        Ok(status) => PathBuf::from(status.log_path),
        Err(error) => {
            let error = crate::images::describe(&error);
            return text(
                StatusCode::BAD_REQUEST,
                format!("failed to try resolving symlinks in path: {error}"),
            );
        }
    };
    let mut file = match std::fs::File::open(&path) {
        Ok(file) => file,
        Err(error) => {
            return text(StatusCode::BAD_REQUEST, format!("failed to open log file {path:?}: {error}"));
        }
    };
    let from = options.tail.map_or(Ok(0), |lines| tail_offset(&mut file, lines));
    if let Err(error) = from.and_then(|from| file.seek(SeekFrom::Start(from))) {
        return text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string());
    }
    let reader = Reader {
        file,
        path,
        id,
        client,
        follow: options.follow,
        formatter: Formatter::new(options),
        last: false,
    };
    let stream = futures::stream::unfold(reader, |mut reader| async move {
        let piece = reader.next().await?;
        Some((piece.map(Frame::data), reader))
    });
    let mut response = Response::new(StreamBody::new(stream).boxed_unsync());
    let plain = http::HeaderValue::from_static("text/plain");
    response.headers_mut().insert(http::header::CONTENT_TYPE, plain);
    response
}

/// Reads a log file piece by piece.
struct Reader {
    file: std::fs::File,
    path: PathBuf,
    id: String,
    client: cri::Client,
    follow: bool,
    formatter: Formatter,
    /// The container has ended: what is there now is all.
    last: bool,
}

impl Reader {
    async fn next(&mut self) -> Option<std::io::Result<Bytes>> {
        let mut block = vec![0; BLOCK];
        let mut idle = 0;
        loop {
            if self.formatter.is_full() {
                return None;
            }
            match self.file.read(&mut block) {
                Err(error) => return Some(Err(error)),
                Ok(0) => {
                    if !self.follow || self.last {
                        return None;
                    }
                    // A new file under the same name: rotated.
                    if self.rotated() {
                        continue;
                    }
                    idle += 1;
                    if idle % 5 == 0 && !self.running().await {
                        self.last = true;
                        continue;
                    }
                    tokio::time::sleep(LOOK).await;
                }
                Ok(n) => {
                    let text = self.formatter.push(&block[..n]);
                    if !text.is_empty() {
                        return Some(Ok(Bytes::from(text)));
                    }
                }
            }
        }
    }

    fn rotated(&mut self) -> bool {
        use std::os::unix::fs::MetadataExt;
        let inode = |m: std::io::Result<std::fs::Metadata>| m.ok().map(|m| m.ino());
        if inode(std::fs::metadata(&self.path)) == inode(self.file.metadata()) {
            return false;
        }
        match std::fs::File::open(&self.path) {
            Ok(file) => {
                self.file = file;
                true
            }
            Err(_) => false,
        }
    }

    async fn running(&self) -> bool {
        match self.client.container_status(&self.id).await {
            Ok(status) => matches!(state(status.state), State::Running | State::Created),
            Err(error) => !error.is_not_found(),
        }
    }
}

/// What a query asks of a log, and whether of the container's life before; the refusal is the answer itself.
#[allow(clippy::result_large_err, reason = "the error is the answer itself")]
pub fn options(pairs: &[(String, String)], now: Timestamp) -> Result<(Options, bool), Response<Body>> {
    let bad = || text(StatusCode::BAD_REQUEST, "{\"message\": \"Unable to decode query.\"}");
    let invalid = || text(StatusCode::UNPROCESSABLE_ENTITY, "{\"message\": \"Invalid request.\"}");
    let get =
        |name: &str| pairs.iter().find(|(k, _)| k == name).map(|(_, v)| v.as_str()).filter(|v| !v.is_empty());
    let flag = |name: &str| match get(name) {
        None => Ok(false),
        Some(v) => match v {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
            _ => Err(bad()),
        },
    };
    let number = |name: &str| get(name).map(|v| v.parse::<i64>().map_err(|_| bad())).transpose();
    let tail = match get("tail") {
        Some("all") => None,
        Some(v) => Some(v.parse::<i64>().map_err(|_| bad())?),
        None => number("tailLines")?,
    };
    let (limit, since) = (number("limitBytes")?, number("sinceSeconds")?);
    let since_time = get("sinceTime").map(|v| v.parse::<Timestamp>().map_err(|_| bad())).transpose()?;
    if tail.is_some_and(|t| t < 0)
        || limit.is_some_and(|l| l < 1)
        || since.is_some_and(|s| s < 1)
        || (since.is_some() && since_time.is_some())
    {
        return Err(invalid());
    }
    let stream = match get("stream") {
        None | Some("All") => None,
        Some("Stdout") => Some("stdout".to_owned()),
        Some("Stderr") => Some("stderr".to_owned()),
        Some(_) => return Err(invalid()),
    };
    let ago = since.and_then(|s| now.checked_sub(SignedDuration::from_secs(s)).ok());
    let options = Options {
        follow: flag("follow")?,
        tail: tail.and_then(|t| usize::try_from(t).ok()),
        since: since_time.or(ago),
        timestamps: flag("timestamps")?,
        limit_bytes: limit.and_then(|l| usize::try_from(l).ok()),
        stream,
    };
    Ok((options, flag("previous")?))
}

/// Which life of a container is meant; the texts are upstream's.
fn container_id(status: &PodStatus, pod: &str, name: &str, previous: bool) -> Result<String, String> {
    let lists =
        [&status.container_statuses, &status.init_container_statuses, &status.ephemeral_container_statuses];
    let mut all = lists.into_iter().flatten().flatten();
    let found: Option<&ContainerStatus> = all.find(|s| s.name == name);
    let Some(status) = found else {
        return Err(format!("container {name:?} in pod {pod:?} is not available"));
    };
    let which = format!("container {name:?} in pod {pod:?}");
    let last = status.last_state.as_ref().and_then(|s| s.terminated.as_ref());
    let last_id = last.and_then(|t| t.container_id.as_deref()).filter(|id| !id.is_empty());
    let state = status.state.clone().unwrap_or_default();
    let id = if previous {
        last_id.ok_or_else(|| format!("previous terminated {which} not found"))?
    } else if state.running.is_some() {
        status.container_id.as_deref().unwrap_or_default()
    } else if let Some(ended) = &state.terminated {
        let own = ended.container_id.as_deref().filter(|id| !id.is_empty());
        own.or(last_id).ok_or_else(|| format!("{which} is terminated"))?
    } else if last.is_some() {
        last_id.ok_or_else(|| format!("{which} is terminated"))?
    } else {
        let reason = state.waiting.and_then(|w| w.reason).unwrap_or_default();
        return Err(match reason.as_str() {
            "ErrImagePull" => format!("{which} is waiting to start: image can't be pulled"),
            "ImagePullBackOff" => format!("{which} is waiting to start: trying and failing to pull image"),
            "" => format!("{which} is waiting to start - no logs yet"),
            reason => format!("{which} is waiting to start: {reason}"),
        });
    };
    Ok(id.split_once("://").map_or(id, |(_, id)| id).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_life_that_is_meant() {
        let ended = |id: &str| json!({"terminated": {"exitCode": 1, "containerID": id}});
        for (state, last, previous, expect) in [
            (json!({"running": {}}), json!({}), false, "now"),
            (json!({"running": {}}), ended("containerd://old"), true, "old"),
            (
                json!({"running": {}}),
                json!({}),
                true,
                "previous terminated container \"c\" in pod \"p\" not found",
            ),
            (ended("containerd://now"), json!({}), false, "now"),
            (json!({"waiting": {"reason": "CrashLoopBackOff"}}), ended("containerd://old"), false, "old"),
            (
                json!({"waiting": {"reason": "ErrImagePull"}}),
                json!({}),
                false,
                "container \"c\" in pod \"p\" is waiting to start: image can't be pulled",
            ),
            (
                json!({"waiting": {"reason": "ContainerCreating"}}),
                json!({}),
                false,
                "container \"c\" in pod \"p\" is waiting to start: ContainerCreating",
            ),
        ] {
            let status = json!({"containerStatuses": [{"name": "c", "image": "", "imageID": "", "ready": false, "restartCount": 0, "containerID": "containerd://now", "state": state, "lastState": last}]});
            let status: PodStatus = serde_json::from_value(status).expect("a status");
            let got = container_id(&status, "p", "c", previous).unwrap_or_else(|e| e);
            assert_eq!(got, expect, "{state} {last}");
        }
    }
}
