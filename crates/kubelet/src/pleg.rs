//! The pod lifecycle event generator: notices what happens in the runtime by itself, and wakes the workers
//! concerned. Workers look after their own deeds themselves.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::context::Context;
use crate::pods::Pods;
use crate::runtime::Overview;

/// How often everything is listed when the runtime tells nothing by itself, and when it does.
const POLL: Duration = Duration::from_secs(1);
const POLL_WITH_EVENTS: Duration = Duration::from_secs(10);
/// When to look after an event: the runtime's own books follow a moment later, and now and then much later.
const LOOKS: [Duration; 3] = [Duration::from_secs(1), Duration::from_millis(150), Duration::from_millis(15)];

/// Pods whose sandboxes or containers differ between two overviews.
pub fn changed(old: &BTreeMap<String, Overview>, new: &BTreeMap<String, Overview>) -> Vec<String> {
    let differs = |uid: &&String| old.get(*uid) != new.get(*uid);
    let gone = old.keys().filter(|uid| !new.contains_key(*uid));
    new.keys().filter(differs).chain(gone).cloned().collect()
}

/// Runs until `shutdown`.
pub async fn run(context: Arc<Context>, pods: Pods, shutdown: CancellationToken) {
    let (sender, mut exits) = mpsc::channel(16);
    let mut last = BTreeMap::new();
    let listening = tokio::spawn(listen(context.clone(), sender, shutdown.clone()));
    // Whether exits are told by the runtime, and how many looks are due after the last one.
    let (mut told, mut looks) = (false, 0usize);
    loop {
        match context.runtime.overview().await {
            Ok(now) => {
                for uid in changed(&last, &now) {
                    pods.wake(&uid);
                }
                last = now;
            }
            Err(error) => tracing::debug!("listing pods: {error}"),
        }
        let idle = if told { POLL_WITH_EVENTS } else { POLL };
        let period = looks.checked_sub(1).and_then(|i| LOOKS.get(i).copied()).unwrap_or(idle);
        tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            event = exits.recv() => match event {
                Some(Told::Listening(listening)) => told = listening,
                Some(Told::Exit) => {
                    looks = LOOKS.len();
                    // Many at once are looked at once.
                    tokio::time::sleep(LOOKS[looks - 1]).await;
                    while let Ok(Told::Exit) = exits.try_recv() {}
                    looks -= 1;
                }
                None => told = false,
            },
            () = tokio::time::sleep(period) => looks = looks.saturating_sub(1),
        }
    }
    listening.abort();
}

enum Told {
    Listening(bool),
    Exit,
}

/// Follows containerd's own events, as long as it is one.
async fn listen(context: Arc<Context>, sender: mpsc::Sender<Told>, shutdown: CancellationToken) {
    while !shutdown.is_cancelled() {
        if let Ok(mut exits) = context.runtime.client.exits().await {
            let _ = sender.send(Told::Listening(true)).await;
            while let Ok(true) = exits.next().await {
                if sender.send(Told::Exit).await.is_err() {
                    return;
                }
            }
            let _ = sender.send(Told::Listening(false)).await;
        }
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences() {
        let pod = |state| Overview { containers: [("c".to_owned(), state)].into(), ..Overview::default() };
        let old =
            BTreeMap::from([("a".to_owned(), pod(1)), ("b".to_owned(), pod(1)), ("c".to_owned(), pod(1))]);
        let new =
            BTreeMap::from([("a".to_owned(), pod(1)), ("b".to_owned(), pod(2)), ("d".to_owned(), pod(0))]);
        assert_eq!(changed(&old, &new), ["b", "d", "c"]);
    }
}
