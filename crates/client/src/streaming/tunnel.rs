//! A whole SPDY connection inside a WebSocket: port-forward with `SPDY/3.1+portforward.k8s.io` (KEP-4006). What is
//! inside the messages is passed on and not looked at.

use std::pin::pin;

use bytes::Bytes;
use futures::{SinkExt as _, StreamExt as _};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, split};

use super::websocket::{self, Message};

const PREFIX: &str = "SPDY/3.1+";
const SUFFIX: &str = ".k8s.io";
/// Read at once, and the longest message that a client is sent.
const BLOCK: usize = 32 << 10;

/// What is spoken inside, if `protocol` is a tunnel.
pub fn inner(protocol: &str) -> Option<&str> {
    protocol.strip_prefix(PREFIX).filter(|_| protocol.ends_with(SUFFIX))
}

/// The WebSocket protocol in which `inner` is spoken.
pub fn outer(inner: &str) -> String {
    format!("{PREFIX}{inner}")
}

/// Carries bytes between a client's WebSocket and a SPDY connection until either ends; then both have.
pub async fn serve<C, B>(client: C, backend: B)
where
    C: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let (mut sink, mut source) = websocket::accept(client, websocket::LONGEST_MESSAGE).await.split();
    let (mut from, mut to) = split(backend);
    {
        let mut up = pin!(async {
            while let Some(Ok(message)) = source.next().await {
                match message {
                    Message::Binary(bytes) => {
                        let written = async { to.write_all(&bytes).await.and(to.flush().await) };
                        let Ok(()) = written.await else { return };
                    }
                    // SPDY is no text.
                    Message::Text(_) => return,
                    _ => {}
                }
            }
        });
        let mut down = pin!(async {
            let mut block = vec![0; BLOCK];
            while let Ok(length @ 1..) = from.read(&mut block).await {
                let message = Message::Binary(Bytes::copy_from_slice(&block[..length]));
                if sink.send(message).await.is_err() {
                    return;
                }
            }
        });
        tokio::select! {
            biased;
            () = &mut up => {}
            () = &mut down => {}
        }
    }
    let _ = to.shutdown().await;
    if sink.send(websocket::close()).await.is_ok() {
        let rest = pin!(async { while let Some(Ok(_)) = source.next().await {} });
        websocket::wait_for_close(rest).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio_tungstenite::WebSocketStream;
    use tokio_tungstenite::tungstenite::protocol::Role;

    #[test]
    fn tunnels() {
        for (protocol, expect) in [
            ("SPDY/3.1+portforward.k8s.io", Some("portforward.k8s.io")),
            ("SPDY/3.1+portforward", None),
            ("portforward.k8s.io", None),
        ] {
            assert_eq!(inner(protocol), expect);
            assert!(expect.is_none_or(|inner| outer(inner) == protocol));
        }
    }

    /// Who ends the tunnel, and what the other side gets of it.
    #[tokio::test(start_paused = true)]
    async fn both_ways_and_the_end() {
        for ended_by in ["client", "backend", "client's text", "client vanishes"] {
            let (near, far) = tokio::io::duplex(1000);
            let (backend, mut kubelet) = tokio::io::duplex(1000);
            let tunnel = tokio::spawn(serve(near, backend));
            let mut client = WebSocketStream::from_raw_socket(far, Role::Client, None).await;
            let big: Vec<u8> = (0..100_000_u32).map(|i| i as u8).collect();
            let mut got = vec![0; big.len()];
            let (sent, read) =
                tokio::join!(client.send(Message::Binary(big.clone().into())), kubelet.read_exact(&mut got));
            assert!(sent.is_ok() && read.is_ok() && got == big);
            let collect = async {
                let mut all = Vec::new();
                while all.len() < big.len() {
                    all.extend_from_slice(&client.next().await.unwrap().unwrap().into_data());
                }
                all
            };
            let (written, all) = tokio::join!(kubelet.write_all(&big), collect);
            assert!(written.is_ok() && all == big);
            client.send(Message::Ping(Bytes::from_static(b"?"))).await.unwrap();
            assert_eq!(client.next().await.unwrap().unwrap(), Message::Pong(Bytes::from_static(b"?")));
            match ended_by {
                "client" => client.send(websocket::close()).await.unwrap(),
                "client's text" => client.send(Message::text("x")).await.unwrap(),
                "backend" => drop(kubelet),
                _ => {
                    drop(client);
                    assert_eq!(kubelet.read(&mut got).await.unwrap(), 0, "{ended_by}");
                    tunnel.await.unwrap();
                    continue;
                }
            }
            let last = client.next().await.unwrap().unwrap();
            assert_eq!(last, websocket::close(), "{ended_by}");
            while let Some(Ok(_)) = client.next().await {}
            tunnel.await.unwrap();
        }
    }
}
