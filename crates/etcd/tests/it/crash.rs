//! The store against its model, on a sound disk and on one that loses power at any operation.

use std::sync::Arc;

use etcd::disk::{Faults, SimDisk};
use etcd::*;

use super::random::Random;
use super::world::{World, small};

/// Uses a store for some rounds, each ended by a loss of power at a random operation.
fn crashes(seed: u64, ignore_sync: bool) -> Result<Vec<String>, String> {
    let mut world = World::new(seed);
    let mut dice = Random(seed);
    for round in 0..4 {
        let faults = Faults { ignore_sync, ..Faults::default() };
        let crash_at = Some(world.disk.operations() + dice.below(if round == 0 { 300 } else { 120 }));
        world.set_faults(Faults { crash_at, ..faults.clone() });
        let mut pending = Vec::new();
        for _ in 0..120 {
            if dice.one_in(5) {
                world.watch_at_random();
            }
            if let Some(lost) = world.step().map_err(|error| format!("round {round}: {error}"))? {
                pending = lost;
                break;
            }
        }
        world.writer = None;
        world.disk.crash();
        // The power may fail again while the store is being opened.
        while dice.one_in(2) {
            world.set_faults(Faults { crash_at: Some(dice.below(12)), ..faults.clone() });
            drop(Store::open(small(), Arc::new(world.disk.clone())));
            world.disk.crash();
        }
        world.reopen(&pending).map_err(|error| format!("round {round}: {error}"))?;
    }
    Ok(world.disk.trace())
}

fn check_seeds(seeds: std::ops::Range<u64>) {
    for seed in seeds {
        if let Err(error) = crashes(seed, false) {
            panic!("seed {seed}: {error}");
        }
    }
}

// Four, so that they run side by side.
#[test]
fn loses_nothing_0() {
    check_seeds(0..500);
}

#[test]
fn loses_nothing_1() {
    check_seeds(500..1000);
}

#[test]
fn loses_nothing_2() {
    check_seeds(1000..1500);
}

#[test]
fn loses_nothing_3() {
    check_seeds(1500..2000);
}

#[test]
fn without_syncs_it_would_lose() {
    let lost = (0..100).filter(|seed| crashes(*seed, true).is_err()).count();
    assert!(lost > 50, "only {lost} of 100 seeds noticed that nothing is synced");
}

#[test]
fn the_same_seed_does_the_same() {
    for seed in 0..20 {
        let (first, second) = (crashes(seed, false), crashes(seed, false));
        assert!(first.is_ok() && first == second, "seed {seed}");
    }
}

#[test]
fn behaves_as_the_model() {
    for seed in 0..40 {
        let mut world = World::new(seed);
        for step in 0..300 {
            if step % 5 == 0 {
                world.watch_at_random();
            }
            let lost = world.step().unwrap_or_else(|error| panic!("seed {seed} step {step}: {error}"));
            assert!(lost.is_none(), "seed {seed} step {step}: the store broke");
            if step % 60 == 0 {
                world.check_history().unwrap_or_else(|error| panic!("seed {seed} step {step}: {error}"));
            }
        }
        // A clean stop and start.
        let now = world.now;
        world.writer.take().expect("the writer").finish(now);
        world.reopen(&[]).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        world.disk.crash();
        world.reopen(&[]).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    }
}

/// A sync that fails is not tried again, and nothing that it was for is ever acknowledged.
#[test]
fn a_failed_sync_is_final() {
    for seed in 0..300 {
        let mut world = World::new(seed);
        let mut dice = Random(seed);
        for _ in 0..10 {
            world.step().unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        }
        // More syncs have been made than these; count from none.
        let disk = world.disk.clone();
        let syncs = disk.trace().iter().filter(|line| line.starts_with("sync ")).count() as u64;
        world.set_faults(Faults { fail_sync: Some(syncs + dice.below(10)), ..Faults::default() });
        let mut pending = Vec::new();
        for _ in 0..60 {
            if let Some(lost) = world.step().unwrap_or_else(|error| panic!("seed {seed}: {error}")) {
                pending = lost;
                break;
            }
        }
        world.check_history().unwrap_or_else(|error| panic!("seed {seed}: still readable: {error}"));
        world.writer = None;
        world.disk.crash();
        world.reopen(&pending).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    }
}

#[test]
fn many_restarts_leave_few_files() {
    let disk = SimDisk::new();
    for restart in 0..100 {
        let (store, mut writer) = Store::open(small(), Arc::new(disk.clone())).expect("opens");
        assert_eq!(store.revision(), 1 + restart);
        super::world::put(&store, &mut writer, "key", "value").expect("put");
        while writer.step(std::time::Duration::ZERO).busy {}
    }
    let names = etcd::disk::Disk::list(&disk).expect("names");
    assert!(names.len() < 110, "{names:?}");
}
