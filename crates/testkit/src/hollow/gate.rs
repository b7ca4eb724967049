//! A TCP relay that drops all its connections at intervals.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

/// Relays every connection to `to`, and cuts all that are open each time `every` has passed. Runs until the
/// listener fails.
pub async fn run(listener: TcpListener, to: SocketAddr, every: Duration) -> Result<()> {
    let mut cut = CancellationToken::new();
    let mut turn = tokio::time::interval_at(tokio::time::Instant::now() + every, every);
    loop {
        let (client, _) = tokio::select! {
            biased;
            _ = turn.tick() => {
                std::mem::take(&mut cut).cancel();
                continue;
            }
            accepted = listener.accept() => accepted.context("accepting a connection")?,
        };
        tokio::spawn(relay(client, to, cut.clone()));
    }
}

/// Ends when either side does, when the server cannot be reached, or at the cut; both sides see a closed connection.
async fn relay(mut client: TcpStream, to: SocketAddr, cut: CancellationToken) {
    let Ok(mut server) = TcpStream::connect(to).await else { return };
    let _ = client.set_nodelay(true);
    let _ = server.set_nodelay(true);
    tokio::select! {
        biased;
        () = cut.cancelled() => {}
        _ = copy_bidirectional(&mut client, &mut server) => {}
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// A server that answers each byte with the same one.
    async fn echo(listener: TcpListener) {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut read, mut write) = stream.split();
                let _ = tokio::io::copy(&mut read, &mut write).await;
            });
        }
    }

    #[tokio::test]
    async fn relays_until_the_cut_and_again_after_it() {
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let gate = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (to, at) = (server.local_addr().unwrap(), gate.local_addr().unwrap());
        tokio::spawn(echo(server));
        tokio::spawn(run(gate, to, Duration::from_millis(300)));
        for _ in 0..2 {
            let mut stream = TcpStream::connect(at).await.unwrap();
            stream.write_all(b"x").await.unwrap();
            assert_eq!(stream.read_u8().await.unwrap(), b'x');
            assert!(stream.read_u8().await.is_err(), "the connection was not cut");
        }
    }
}
