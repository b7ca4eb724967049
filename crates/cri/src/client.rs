//! Thin typed calls with a deadline each.

use std::path::{Path, PathBuf};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use prost::Message as _;
use tokio::net::UnixStream;
use tonic::Code;
use tonic::transport::{Channel, Endpoint};

use crate::events_v1::{self, events_client::EventsClient};
use crate::v1;
use crate::v1::image_service_client::ImageServiceClient;
use crate::v1::runtime_service_client::RuntimeServiceClient;

/// Upstream's `--runtime-request-timeout`.
const TIMEOUT: Duration = Duration::from_secs(120);
/// Setting up a sandbox includes the network plugins: upstream grants it twice the usual time.
const SANDBOX_TIMEOUT: Duration = Duration::from_secs(240);
/// Upstream's limit for one message.
const MAX_MESSAGE: usize = 16 << 20;

/// Why a call did not succeed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The endpoint is not one that can be spoken to.
    #[error(
        "container runtime endpoint {endpoint:?}: {reason}; it has the form unix:///run/containerd/containerd.sock"
    )]
    Endpoint { endpoint: String, reason: &'static str },
    /// Nothing is at the endpoint.
    #[error("no container runtime at {}: {reason}", path.display())]
    Missing { path: PathBuf, reason: &'static str },
    /// The runtime answered with an error. `message` is the runtime's own text.
    #[error("{call}: {message}")]
    Call { call: &'static str, code: Code, message: String },
    /// The runtime gave no answer in time.
    #[error("{call}: no answer from the container runtime within {seconds} s")]
    Timeout { call: &'static str, seconds: u64 },
    /// The answer lacked a part that the interface demands.
    #[error("{call}: the answer lacks {what}")]
    Incomplete { call: &'static str, what: &'static str },
}

impl Error {
    /// The gRPC code, where the error comes from a call.
    pub fn code(&self) -> Code {
        match self {
            Error::Call { code, .. } => *code,
            Error::Timeout { .. } => Code::DeadlineExceeded,
            Error::Missing { .. } => Code::Unavailable,
            Error::Endpoint { .. } => Code::InvalidArgument,
            Error::Incomplete { .. } => Code::Internal,
        }
    }

    /// Whether the named sandbox, container or image does not exist.
    pub fn is_not_found(&self) -> bool {
        self.code() == Code::NotFound
    }

    /// Whether the runtime does not offer this call.
    pub fn is_unimplemented(&self) -> bool {
        self.code() == Code::Unimplemented
    }

    /// Whether the runtime was not there at all.
    pub fn is_unavailable(&self) -> bool {
        self.code() == Code::Unavailable
    }
}

/// A cheap handle on one runtime: runtime and image service over one connection, which is made at the first
/// call and again after it broke.
#[derive(Debug, Clone)]
pub struct Client {
    path: PathBuf,
    runtime: RuntimeServiceClient<Channel>,
    image: ImageServiceClient<Channel>,
    events: EventsClient<Channel>,
}

/// A stream of container events, as `GetContainerEvents` gives it.
pub struct Events(tonic::Streaming<v1::ContainerEventResponse>);

impl Events {
    /// The next event; `None` when the runtime closed the stream.
    pub async fn next(&mut self) -> Result<Option<v1::ContainerEventResponse>, Error> {
        self.0.message().await.map_err(|s| Error::Call {
            call: "GetContainerEvents",
            code: s.code(),
            message: s.message().to_owned(),
        })
    }
}

/// Ends of containers, as containerd tells them by itself.
pub struct Exits(tonic::Streaming<events_v1::Envelope>);

impl Exits {
    /// Waits until a container has ended; false when containerd closed the stream. Ends of commands that were
    /// executed in a container do not count.
    pub async fn next(&mut self) -> Result<bool, Error> {
        let fail = |s: tonic::Status| Error::Call {
            call: "Subscribe",
            code: s.code(),
            message: s.message().to_owned(),
        };
        while let Some(envelope) = self.0.message().await.map_err(fail)? {
            let value = envelope.event.unwrap_or_default().value;
            let exit = events_v1::TaskExit::decode(value.as_slice()).unwrap_or_default();
            if exit.id == exit.container_id {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

impl Client {
    /// A handle on the runtime at `endpoint` (`unix:///path` or a bare absolute path), without speaking to it.
    /// Must be called within a tokio runtime.
    pub fn lazy(endpoint: &str) -> Result<Client, Error> {
        let bad = |reason| Error::Endpoint { endpoint: endpoint.to_owned(), reason };
        let path = match endpoint.split_once("://") {
            Some(("unix", path)) => path,
            Some(_) => return Err(bad("only unix sockets are supported")),
            None => endpoint,
        };
        if path.is_empty() {
            return Err(bad("it names no socket"));
        }
        if !path.starts_with('/') {
            return Err(bad("the path of the socket is not absolute"));
        }
        let path = PathBuf::from(path);
        let at = path.clone();
        let connector = tower::service_fn(move |_: tonic::transport::Uri| {
            let at = at.clone();
            async move { UnixStream::connect(at).await.map(TokioIo::new) }
        });
        let channel = Endpoint::from_static("http://localhost")
            .connect_timeout(Duration::from_secs(5))
            .connect_with_connector_lazy(connector);
        Ok(Client {
            path,
            runtime: RuntimeServiceClient::new(channel.clone())
                .max_decoding_message_size(MAX_MESSAGE)
                .max_encoding_message_size(MAX_MESSAGE),
            events: EventsClient::new(channel.clone()),
            image: ImageServiceClient::new(channel)
                .max_decoding_message_size(MAX_MESSAGE)
                .max_encoding_message_size(MAX_MESSAGE),
        })
    }

    /// A handle on the runtime at `endpoint`, after it has answered a version request.
    pub async fn connect(endpoint: &str) -> Result<Client, Error> {
        let client = Client::lazy(endpoint)?;
        client.version().await?;
        Ok(client)
    }

    /// The path of the socket.
    pub fn path(&self) -> &Path {
        &self.path
    }

    async fn call<T>(
        &self,
        call: &'static str,
        timeout: Duration,
        rpc: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
    ) -> Result<T, Error> {
        match tokio::time::timeout(timeout, rpc).await {
            Ok(Ok(answer)) => Ok(answer.into_inner()),
            Ok(Err(status)) => Err(self.explain(call, status).await),
            Err(_) => Err(Error::Timeout { call, seconds: timeout.as_secs() }),
        }
    }

    /// A transport error says little; looking at the socket says what is wrong.
    async fn explain(&self, call: &'static str, status: tonic::Status) -> Error {
        if matches!(status.code(), Code::Unavailable | Code::Unknown) {
            let missing = |reason| Error::Missing { path: self.path.clone(), reason };
            if !self.path.exists() {
                return missing("the socket does not exist");
            }
            if let Err(error) = UnixStream::connect(&self.path).await {
                match error.kind() {
                    std::io::ErrorKind::ConnectionRefused => {
                        return missing("the socket exists, but no process answers on it");
                    }
                    std::io::ErrorKind::PermissionDenied => {
                        return missing("no permission to use the socket");
                    }
                    _ => {}
                }
            }
        }
        Error::Call { call, code: status.code(), message: status.message().to_owned() }
    }

    fn runtime(&self) -> RuntimeServiceClient<Channel> {
        self.runtime.clone()
    }

    fn image(&self) -> ImageServiceClient<Channel> {
        self.image.clone()
    }

    /// Name and version of the runtime.
    pub async fn version(&self) -> Result<v1::VersionResponse, Error> {
        let request = v1::VersionRequest { version: "0.1.0".into() };
        self.call("Version", Duration::from_secs(10), self.runtime().version(request)).await
    }

    /// The runtime's conditions (`RuntimeReady`, `NetworkReady`) and handlers.
    pub async fn status(&self) -> Result<v1::StatusResponse, Error> {
        let request = v1::StatusRequest { verbose: false };
        self.call("Status", TIMEOUT, self.runtime().status(request)).await
    }

    /// Whether one condition of the runtime's status holds, with its message when it does not.
    pub async fn condition(&self, name: &str) -> Result<Result<(), String>, Error> {
        let status = self.status().await?.status.unwrap_or_default();
        Ok(match status.conditions.iter().find(|c| c.r#type == name) {
            Some(c) if c.status => Ok(()),
            Some(c) => Err(c.message.clone()),
            None => Err(format!("the runtime reports no {name} condition")),
        })
    }

    /// The cgroup driver that the runtime wants; older runtimes do not offer the call.
    pub async fn runtime_config(&self) -> Result<v1::RuntimeConfigResponse, Error> {
        self.call("RuntimeConfig", TIMEOUT, self.runtime().runtime_config(v1::RuntimeConfigRequest {})).await
    }

    /// Tells the runtime the node's pod address range.
    pub async fn update_pod_cidr(&self, pod_cidr: &str) -> Result<(), Error> {
        let network_config = Some(v1::NetworkConfig { pod_cidr: pod_cidr.to_owned() });
        let request =
            v1::UpdateRuntimeConfigRequest { runtime_config: Some(v1::RuntimeConfig { network_config }) };
        self.call("UpdateRuntimeConfig", TIMEOUT, self.runtime().update_runtime_config(request)).await?;
        Ok(())
    }

    /// Creates and starts a sandbox; the answer is its id.
    pub async fn run_pod_sandbox(
        &self,
        config: v1::PodSandboxConfig,
        runtime_handler: &str,
    ) -> Result<String, Error> {
        let request =
            v1::RunPodSandboxRequest { config: Some(config), runtime_handler: runtime_handler.to_owned() };
        let answer =
            self.call("RunPodSandbox", SANDBOX_TIMEOUT, self.runtime().run_pod_sandbox(request)).await?;
        Ok(answer.pod_sandbox_id)
    }

    /// Stops a sandbox with everything in it; a second call is harmless.
    pub async fn stop_pod_sandbox(&self, id: &str) -> Result<(), Error> {
        let request = v1::StopPodSandboxRequest { pod_sandbox_id: id.to_owned() };
        self.call("StopPodSandbox", TIMEOUT, self.runtime().stop_pod_sandbox(request)).await?;
        Ok(())
    }

    /// Removes a sandbox and its containers; a second call is harmless.
    pub async fn remove_pod_sandbox(&self, id: &str) -> Result<(), Error> {
        let request = v1::RemovePodSandboxRequest { pod_sandbox_id: id.to_owned() };
        self.call("RemovePodSandbox", TIMEOUT, self.runtime().remove_pod_sandbox(request)).await?;
        Ok(())
    }

    /// One sandbox with its addresses.
    pub async fn pod_sandbox_status(&self, id: &str) -> Result<v1::PodSandboxStatus, Error> {
        let request = v1::PodSandboxStatusRequest { pod_sandbox_id: id.to_owned(), verbose: false };
        let call = "PodSandboxStatus";
        let answer = self.call(call, TIMEOUT, self.runtime().pod_sandbox_status(request)).await?;
        answer.status.ok_or(Error::Incomplete { call, what: "the status" })
    }

    /// All sandboxes that match `filter`.
    pub async fn list_pod_sandboxes(
        &self,
        filter: Option<v1::PodSandboxFilter>,
    ) -> Result<Vec<v1::PodSandbox>, Error> {
        let request = v1::ListPodSandboxRequest { filter };
        let answer = self.call("ListPodSandbox", TIMEOUT, self.runtime().list_pod_sandbox(request)).await?;
        Ok(answer.items)
    }

    /// Creates a container in a sandbox; the answer is its id.
    pub async fn create_container(
        &self,
        pod_sandbox_id: &str,
        config: v1::ContainerConfig,
        sandbox_config: v1::PodSandboxConfig,
    ) -> Result<String, Error> {
        let request = v1::CreateContainerRequest {
            pod_sandbox_id: pod_sandbox_id.to_owned(),
            config: Some(config),
            sandbox_config: Some(sandbox_config),
        };
        let answer = self.call("CreateContainer", TIMEOUT, self.runtime().create_container(request)).await?;
        Ok(answer.container_id)
    }

    /// Starts a created container.
    pub async fn start_container(&self, id: &str) -> Result<(), Error> {
        let request = v1::StartContainerRequest { container_id: id.to_owned() };
        self.call("StartContainer", TIMEOUT, self.runtime().start_container(request)).await?;
        Ok(())
    }

    /// Sends the stop signal, and SIGKILL after `grace`; returns when the container has stopped.
    pub async fn stop_container(&self, id: &str, grace: Duration) -> Result<(), Error> {
        let timeout = i64::try_from(grace.as_secs()).unwrap_or(i64::MAX);
        let request = v1::StopContainerRequest { container_id: id.to_owned(), timeout };
        let deadline = TIMEOUT.saturating_add(grace);
        self.call("StopContainer", deadline, self.runtime().stop_container(request)).await?;
        Ok(())
    }

    /// Removes a container, by force if it runs; a second call is harmless.
    pub async fn remove_container(&self, id: &str) -> Result<(), Error> {
        let request = v1::RemoveContainerRequest { container_id: id.to_owned() };
        self.call("RemoveContainer", TIMEOUT, self.runtime().remove_container(request)).await?;
        Ok(())
    }

    /// All containers that match `filter`.
    pub async fn list_containers(
        &self,
        filter: Option<v1::ContainerFilter>,
    ) -> Result<Vec<v1::Container>, Error> {
        let request = v1::ListContainersRequest { filter };
        let answer = self.call("ListContainers", TIMEOUT, self.runtime().list_containers(request)).await?;
        Ok(answer.containers)
    }

    /// One container with times, exit code and mounts.
    pub async fn container_status(&self, id: &str) -> Result<v1::ContainerStatus, Error> {
        let request = v1::ContainerStatusRequest { container_id: id.to_owned(), verbose: false };
        let call = "ContainerStatus";
        let answer = self.call(call, TIMEOUT, self.runtime().container_status(request)).await?;
        answer.status.ok_or(Error::Incomplete { call, what: "the status" })
    }

    /// Changes a running container's resources.
    pub async fn update_container_resources(
        &self,
        id: &str,
        linux: v1::LinuxContainerResources,
    ) -> Result<(), Error> {
        let request = v1::UpdateContainerResourcesRequest {
            container_id: id.to_owned(),
            linux: Some(linux),
            annotations: Default::default(),
        };
        self.call("UpdateContainerResources", TIMEOUT, self.runtime().update_container_resources(request))
            .await?;
        Ok(())
    }

    /// Makes the runtime open a container's log file anew, after it was renamed.
    pub async fn reopen_container_log(&self, id: &str) -> Result<(), Error> {
        let request = v1::ReopenContainerLogRequest { container_id: id.to_owned() };
        self.call("ReopenContainerLog", TIMEOUT, self.runtime().reopen_container_log(request)).await?;
        Ok(())
    }

    /// Runs a command to its end. The runtime kills it after `timeout` (zero: never) and then answers with
    /// [`Code::DeadlineExceeded`].
    pub async fn exec_sync(
        &self,
        id: &str,
        cmd: &[String],
        timeout: Duration,
    ) -> Result<v1::ExecSyncResponse, Error> {
        let seconds = i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX);
        let request =
            v1::ExecSyncRequest { container_id: id.to_owned(), cmd: cmd.to_vec(), timeout: seconds };
        let deadline = if timeout.is_zero() { Duration::from_secs(24 * 3600) } else { TIMEOUT + timeout };
        self.call("ExecSync", deadline, self.runtime().exec_sync(request)).await
    }

    /// Prepares an exec session; the answer is the address to stream to.
    pub async fn exec(&self, request: v1::ExecRequest) -> Result<String, Error> {
        Ok(self.call("Exec", TIMEOUT, self.runtime().exec(request)).await?.url)
    }

    /// Prepares an attach session; the answer is the address to stream to.
    pub async fn attach(&self, request: v1::AttachRequest) -> Result<String, Error> {
        Ok(self.call("Attach", TIMEOUT, self.runtime().attach(request)).await?.url)
    }

    /// Prepares a port forwarding session; the answer is the address to stream to.
    pub async fn port_forward(&self, request: v1::PortForwardRequest) -> Result<String, Error> {
        Ok(self.call("PortForward", TIMEOUT, self.runtime().port_forward(request)).await?.url)
    }

    /// Usage of all containers.
    pub async fn list_container_stats(&self) -> Result<Vec<v1::ContainerStats>, Error> {
        let request = v1::ListContainerStatsRequest { filter: None };
        Ok(self
            .call("ListContainerStats", TIMEOUT, self.runtime().list_container_stats(request))
            .await?
            .stats)
    }

    /// The stream of container events; [`Error::is_unimplemented`] with runtimes older than containerd 1.7.
    pub async fn events(&self) -> Result<Events, Error> {
        let request = v1::GetEventsRequest {};
        let stream =
            self.call("GetContainerEvents", TIMEOUT, self.runtime().get_container_events(request)).await?;
        Ok(Events(stream))
    }

    /// The ends of containers; an error with runtimes other than containerd.
    pub async fn exits(&self) -> Result<Exits, Error> {
        let filters = vec!["topic==\"/tasks/exit\",namespace==\"k8s.io\"".to_owned()];
        let mut events = self.events.clone();
        let rpc = events.subscribe(events_v1::SubscribeRequest { filters });
        Ok(Exits(self.call("Subscribe", TIMEOUT, rpc).await?))
    }

    /// The images that the runtime holds.
    pub async fn list_images(&self) -> Result<Vec<v1::Image>, Error> {
        let request = v1::ListImagesRequest { filter: None };
        Ok(self.call("ListImages", TIMEOUT, self.image().list_images(request)).await?.images)
    }

    /// One image, by name or id; `None` when the runtime does not hold it.
    pub async fn image_status(&self, image: &str) -> Result<Option<v1::Image>, Error> {
        let request = v1::ImageStatusRequest { image: Some(spec(image)), verbose: false };
        Ok(self.call("ImageStatus", TIMEOUT, self.image().image_status(request)).await?.image)
    }

    /// Pulls an image and answers with its reference. There is no deadline: drop the future to give up.
    pub async fn pull_image(
        &self,
        image: &str,
        auth: Option<v1::AuthConfig>,
        sandbox_config: Option<v1::PodSandboxConfig>,
    ) -> Result<String, Error> {
        let request = v1::PullImageRequest { image: Some(spec(image)), auth, sandbox_config };
        match self.image().pull_image(request).await {
            Ok(answer) => Ok(answer.into_inner().image_ref),
            Err(status) => Err(self.explain("PullImage", status).await),
        }
    }

    /// Removes an image; a second call is harmless.
    pub async fn remove_image(&self, image: &str) -> Result<(), Error> {
        let request = v1::RemoveImageRequest { image: Some(spec(image)) };
        self.call("RemoveImage", TIMEOUT, self.image().remove_image(request)).await?;
        Ok(())
    }

    /// The file systems that hold images.
    pub async fn image_fs_info(&self) -> Result<v1::ImageFsInfoResponse, Error> {
        self.call("ImageFsInfo", TIMEOUT, self.image().image_fs_info(v1::ImageFsInfoRequest {})).await
    }
}

fn spec(image: &str) -> v1::ImageSpec {
    v1::ImageSpec {
        image: image.to_owned(),
        user_specified_image: image.to_owned(),
        ..v1::ImageSpec::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn endpoints_are_checked() {
        for (endpoint, expect) in [
            ("tcp://127.0.0.1:1", "only unix sockets are supported"),
            ("unix://", "it names no socket"),
            ("unix://run/c.sock", "the path of the socket is not absolute"),
        ] {
            let error = Client::lazy(endpoint).expect_err(endpoint).to_string();
            assert!(error.contains(expect), "{endpoint}: {error}");
        }
        assert_eq!(Client::lazy("/run/c.sock").expect("a path").path(), Path::new("/run/c.sock"));
    }

    #[tokio::test]
    async fn a_missing_runtime_is_named() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("none.sock");
        let error = Client::connect(&format!("unix://{}", path.display())).await.expect_err("no socket");
        assert!(error.is_unavailable(), "{error:?}");
        let text = format!("no container runtime at {}: the socket does not exist", path.display());
        assert_eq!(error.to_string(), text);
        drop(tokio::net::UnixListener::bind(&path).expect("bind"));
        let error = Client::connect(&format!("unix://{}", path.display())).await.expect_err("no process");
        assert!(error.to_string().ends_with("no process answers on it"), "{error}");
    }
}
