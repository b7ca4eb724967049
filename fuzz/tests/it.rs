//! Every input that was ever worth keeping, and those too large to keep, through every target: no panic, no more
//! than 64 MiB, and (by nextest's time limit) no hang.

mod replay;
