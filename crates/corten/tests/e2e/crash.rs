//! The whole process killed in the middle of writes, again and again.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use api::core::v1::ConfigMap;
use api::meta::v1::ObjectMeta;
use client::{Access, Client, HttpTransport, ListParams};
use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::application::deploy;
use super::cluster::{Cluster, eventually, step};

const ROUNDS: usize = 30;
/// Each writer has one object that it updates and deletes and makes again, and new ones that stay.
const WRITERS: usize = 4;

/// What one writer knows of its objects.
#[derive(Clone, Default)]
struct Known {
    /// The number in the changing object that was acknowledged last; `None` when its deletion was.
    value: Option<u64>,
    /// A write whose answer never came: it may have happened or not.
    pending: Option<Option<u64>>,
    /// The objects that were made and stay, with their value.
    made: BTreeMap<String, u64>,
}

struct Writers {
    known: Vec<Arc<Mutex<Known>>>,
    acknowledged: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
}

fn object(name: &str, number: u64) -> ConfigMap {
    ConfigMap {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some("default".to_owned()),
            labels: Some([("e2e".to_owned(), "crash".to_owned())].into()),
            ..ObjectMeta::default()
        },
        data: Some([("number".to_owned(), number.to_string())].into()),
        ..ConfigMap::default()
    }
}

fn number(map: &ConfigMap) -> u64 {
    map.data.as_ref().and_then(|data| data.get("number")?.parse().ok()).unwrap_or_default()
}

/// Writes until told to stop; after an error, until writing works again.
async fn write(
    client: Client,
    writer: usize,
    known: Arc<Mutex<Known>>,
    count: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
) {
    let name = format!("changing-{writer}");
    let mut next = 0;
    while !stop.load(Ordering::Relaxed) {
        next += 1;
        // What the server has may be either of two things after an error; so look before writing on.
        let unsure = known.lock().unwrap().pending.is_some();
        if unsure {
            let mut found = client.get::<ConfigMap>("default", &name).await.map(|map| Some(number(&map)));
            if matches!(&found, Err(client::Error::Status(status)) if status.code == 404) {
                found = Ok(None);
            }
            let Ok(found) = found else {
                tokio::time::sleep(Duration::from_millis(10)).await;
                continue;
            };
            let mut known = known.lock().unwrap();
            let pending = known.pending.take().unwrap();
            let lost = found != known.value && found != pending;
            assert!(!lost, "{name} is {found:?}, acknowledged {:?}, asked for {pending:?}", known.value);
            known.value = found;
        }
        let old = known.lock().unwrap().value;
        let new = if next % 5 == 0 && old.is_some() { None } else { Some(next) };
        known.lock().unwrap().pending = Some(new);
        let done = match (old, new) {
            (_, None) => client.delete::<ConfigMap>("default", &name, &Default::default()).await,
            (None, Some(next)) => client.create(&object(&name, next)).await.map(drop),
            (Some(_), Some(next)) => client.update(&object(&name, next)).await.map(drop),
        };
        if done.is_err() {
            continue;
        }
        {
            let mut known = known.lock().unwrap();
            known.value = new;
            known.pending = None;
        }
        count.fetch_add(1, Ordering::Relaxed);
        let staying = format!("made-{writer}-{next}");
        if client.create(&object(&staying, next)).await.is_ok() {
            known.lock().unwrap().made.insert(staying, next);
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn client(c: &Cluster) -> Client {
    let access = Access::from_kubeconfig(&c.kubeconfig(), None).unwrap();
    Client::new(Arc::new(HttpTransport::new(access).unwrap()), "e2e")
}

impl Writers {
    fn start(c: &Cluster, runtime: &tokio::runtime::Runtime) -> (Writers, Vec<tokio::task::JoinHandle<()>>) {
        let writers = Writers {
            known: (0..WRITERS).map(|_| Arc::default()).collect(),
            acknowledged: Arc::default(),
            stop: Arc::default(),
        };
        let tasks = writers.known.iter().enumerate().map(|(writer, known)| {
            let (count, stop) = (writers.acknowledged.clone(), writers.stop.clone());
            runtime.spawn(write(client(c), writer, known.clone(), count, stop))
        });
        let tasks = tasks.collect();
        (writers, tasks)
    }

    fn count(&self) -> u64 {
        self.acknowledged.load(Ordering::Relaxed)
    }

    /// Everything acknowledged so far must be there, whatever happens beside it.
    fn check(&self, c: &Cluster, runtime: &tokio::runtime::Runtime, round: usize) {
        // What is acknowledged while the list is read may be in it or not.
        let before: Vec<Known> = self.known.iter().map(|known| known.lock().unwrap().clone()).collect();
        let params = ListParams { label_selector: "e2e=crash".into(), ..ListParams::default() };
        let list = eventually("listing works", || {
            runtime
                .block_on(client(c).list::<ConfigMap>("default", &params))
                .map_err(|error| error.to_string())
        });
        let there: BTreeMap<&str, u64> = list
            .items
            .iter()
            .map(|map| (map.metadata.name.as_deref().unwrap_or_default(), number(map)))
            .collect();
        for known in before {
            for (name, number) in known.made {
                assert_eq!(there.get(name.as_str()), Some(&number), "round {round}: {name} was acknowledged");
            }
        }
    }
}

/// The containers of all pods, and how often they were started again.
fn containers(c: &Cluster) -> Vec<String> {
    let each = "{range .items[*]}{.metadata.uid}/{.status.containerStatuses[0].containerID}/\
                {.status.containerStatuses[0].restartCount}{\"\\n\"}{end}";
    c.words("shop", "pods", each)
}

#[test]
fn crash() {
    let Some(c) = Cluster::start() else { return };
    deploy(&c);
    let before = containers(&c);
    assert_eq!(before.len(), 3);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let (writers, tasks) = Writers::start(&c, &runtime);
    let mut times = Vec::new();
    for round in 1..=ROUNDS {
        let begin = writers.count();
        // Not always at the same distance from the start.
        let wanted = begin + 20 + (round as u64 * 37) % 150;
        eventually("writes go on", || match writers.count() {
            count if count >= wanted => Ok(()),
            count if tasks.iter().any(|task| task.is_finished()) => {
                panic!("a writer has failed after {count}")
            }
            count => Err(format!("{} writes", count - begin)),
        });
        step(&format!("kill -9, round {round}, {} writes acknowledged", writers.count()));
        let pid = c.pid();
        kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
        // The lock goes when its last thread does, which may be busy in the kernel.
        eventually("the process is gone", || {
            let file = std::fs::File::open(c.dir.join("corten.pid")).map_err(|error| error.to_string())?;
            Flock::lock(file, FlockArg::LockExclusiveNonblock)
                .map(drop)
                .map_err(|(_, error)| error.to_string())
        });
        let count = writers.count();
        let start = Instant::now();
        let (up, usable) = std::thread::scope(|scope| {
            let up = scope.spawn(|| c.up());
            while writers.count() == count && start.elapsed() < Duration::from_secs(60) {
                std::thread::sleep(Duration::from_millis(2));
            }
            let usable = start.elapsed();
            (up.join().unwrap(), usable)
        });
        times.push(usable);
        up.ok();
        writers.check(&c, &runtime, round);
    }
    writers.stop.store(true, Ordering::Relaxed);
    for task in tasks {
        runtime.block_on(task).expect("a writer found an acknowledged write lost");
    }
    writers.check(&c, &runtime, ROUNDS);
    times.sort();
    eprintln!(
        "    {} writes acknowledged; from start to a first write: median {:?}, longest {:?}",
        writers.count(),
        times[times.len() / 2],
        times[times.len() - 1]
    );

    step("no container was restarted, and the cluster works");
    c.until_field("shop", "deploy/web", "{.status.readyReplicas}", "3");
    assert_eq!(containers(&c), before);
    c.kubectl(&["scale", "-n", "shop", "deploy/web", "--replicas=4"]).ok();
    c.until_field("shop", "deploy/web", "{.status.readyReplicas}", "4");
    let after = containers(&c);
    assert!(before.iter().all(|container| after.contains(container)), "{before:?} became {after:?}");
}
