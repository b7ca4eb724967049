//! The store as its users see it.

mod it {
    mod backup;
    mod crash;
    mod damage;
    mod directory;
    mod full;
    mod golden;
    mod model;
    mod random;
    mod watch;
    mod world;
}
