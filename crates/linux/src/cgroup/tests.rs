use super::*;

const V1: &str = "\
32 31 0:29 / /cg/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /cg/memory rw - cgroup cgroup rw,memory
39 31 0:36 / /cg/pids rw - cgroup cgroup rw,pids
40 31 0:37 / /cg/systemd rw - cgroup cgroup rw,name=systemd
41 31 0:38 / /cg/unified rw - cgroup2 cgroup2 rw
";
const V2: &str = "41 31 0:38 / /cg rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n";

fn limits() -> Resources {
    Resources {
        cpu_shares: Some(512),
        cpu_quota_us: Some(50_000),
        cpu_period_us: Some(100_000),
        memory_limit: Some(1 << 20),
        pids_limit: Some(-1),
        hugepages: [Some((HugePage::Size2M, 4 << 20)), None],
    }
}

fn render(plan: &Plan) -> String {
    let dirs = plan.directories.iter().map(|d| format!("mkdir {}\n", d.display()));
    let writes = plan.writes.iter().map(|(f, v)| format!("{} = {v}\n", f.display()));
    dirs.chain(writes).collect()
}

#[test]
fn plans() {
    let cases = [
        (
            V1,
            limits(),
            "\
mkdir /cg/cpu,cpuacct/k/pod1
mkdir /cg/memory/k/pod1
mkdir /cg/pids/k/pod1
mkdir /cg/systemd/k/pod1
mkdir /cg/unified/k/pod1
/cg/cpu,cpuacct/k/pod1/cpu.shares = 512
/cg/cpu,cpuacct/k/pod1/cpu.cfs_period_us = 100000
/cg/cpu,cpuacct/k/pod1/cpu.cfs_quota_us = 50000
/cg/memory/k/pod1/memory.limit_in_bytes = 1048576
/cg/pids/k/pod1/pids.max = max
",
        ),
        (
            V2,
            limits(),
            "\
mkdir /cg/k/pod1
/cg/k/pod1/cpu.weight = 20
/cg/k/pod1/cpu.max = 50000 100000
/cg/k/pod1/memory.max = 1048576
/cg/k/pod1/pids.max = max
/cg/k/pod1/hugetlb.2MB.max = 4194304
",
        ),
        (
            V2,
            Resources { cpu_quota_us: Some(-1), memory_limit: Some(-1), ..Default::default() },
            "mkdir /cg/k/pod1\n/cg/k/pod1/cpu.max = max 100000\n/cg/k/pod1/memory.max = max\n",
        ),
        (V2, Resources::default(), "mkdir /cg/k/pod1\n"),
    ];
    for (mounts, resources, want) in cases {
        let cgroups = Cgroups::from_mounts(&mount::parse(mounts)).unwrap();
        assert_eq!(render(&cgroups.plan("/k/../pod1", &resources)), want);
    }
}

#[test]
fn versions() {
    let version = |text| Cgroups::from_mounts(&mount::parse(text)).map(|c| c.version());
    assert_eq!(version(V1), Some(Version::V1));
    assert_eq!(version(V2), Some(Version::V2));
    assert_eq!(version("22 27 0:21 / /proc rw - proc proc rw\n"), None);
}

#[test]
fn weights() {
    for (shares, weight) in [(0, 1), (2, 1), (1024, 39), (262_144, 10_000), (u64::MAX, 10_000)] {
        assert_eq!(weight_of_shares(shares), weight, "{shares}");
    }
}

/// The file handling of version 2, on an ordinary directory with the kernel's files laid by hand.
#[test]
fn version_2_on_plain_files() {
    let dir = tempfile::tempdir().unwrap();
    let text = format!("41 31 0:38 / {} rw - cgroup2 cgroup2 rw\n", dir.path().display());
    let cgroups = Cgroups::from_mounts(&mount::parse(&text)).unwrap();
    let put = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
    put("cgroup.controllers", "cpu memory pids\n");
    put("cgroup.subtree_control", "cpu\n");
    fs::create_dir(dir.path().join("k")).unwrap();
    for (name, text) in [
        ("cpu.stat", "usage_usec 5\nuser_usec 3\n"),
        ("memory.current", "1000\n"),
        ("memory.stat", "anon 600\ninactive_file 300\n"),
        ("memory.events", "oom 2\noom_kill 1\n"),
        ("memory.max", "max\n"),
        ("pids.current", "7\n"),
        ("pids.max", "max\n"),
    ] {
        put(&format!("k/{name}"), text);
    }
    cgroups.create("k", &Resources { pids_limit: Some(10), ..Default::default() }).unwrap();
    assert!(fs::read_to_string(dir.path().join("k/pids.max")).unwrap().starts_with("10"));
    assert_eq!(cgroups.controllers().unwrap(), ["cpu", "memory", "pids"]);
    assert_eq!(
        cgroups.stats("k").unwrap(),
        Stats {
            cpu_ns: 5_000,
            memory_usage: 1000,
            memory_working_set: 700,
            memory_rss: 600,
            pids: 7,
            oom_kills: 1,
            ..Default::default()
        }
    );
    assert!(cgroups.exists("k") && !cgroups.exists("other"));
    // A file that the kernel does not have is an error, not a new file.
    let error = cgroups.set("k", &Resources { cpu_shares: Some(2), ..Default::default() }).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::NotFound);
    assert!(error.to_string().ends_with("/k/cpu.weight"), "{error}");
}

/// On the machine's own hierarchies.
#[test]
fn real_group() {
    if !crate::testing::root_or_skip("cgroups") {
        return;
    }
    let cgroups = Cgroups::discover().unwrap();
    let top = format!("linux-test-{}", std::process::id());
    let group = format!("{top}/inner");
    let resources = Resources {
        cpu_shares: Some(512),
        memory_limit: Some(64 << 20),
        pids_limit: Some(20),
        ..Default::default()
    };
    cgroups.create(&group, &resources).unwrap();
    cgroups.create(&group, &resources).unwrap();
    assert!(cgroups.exists(&group));
    assert_eq!(cgroups.children(&top).unwrap(), ["inner"]);
    let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
    let pid = child.id() as i32;
    cgroups.add(&group, pid).unwrap();
    assert_eq!(cgroups.pids(&top).unwrap(), BTreeSet::from([pid]));
    let stats = cgroups.stats(&group).unwrap();
    assert_eq!((stats.pids, stats.memory_limit), (1, Some(64 << 20)));
    assert_eq!(cgroups.remove(&group).unwrap_err().errno(), Some(nix::libc::EBUSY));
    cgroups.freeze(&group).unwrap();
    cgroups.thaw(&group).unwrap();
    assert_eq!(cgroups.kill(&top).unwrap(), 1);
    child.wait().unwrap();
    while cgroups.kill(&top).unwrap() > 0 {
        std::thread::yield_now();
    }
    // The kernel may need a moment after the last process is gone.
    while let Err(error) = cgroups.remove(&top) {
        assert_eq!(error.errno(), Some(nix::libc::EBUSY), "{error}");
        std::thread::yield_now();
    }
    assert!(!cgroups.exists(&top));
    cgroups.remove(&top).unwrap();
}
