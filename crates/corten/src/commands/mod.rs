//! What a user of a cluster types.

pub mod down;
pub mod image;
pub mod process;
pub mod status;
pub mod up;

use std::path::PathBuf;

use clap::Args;

/// Which cluster is meant.
#[derive(Args, Clone, Debug)]
pub struct Which {
    /// Where everything of this cluster lies; several clusters have several directories
    #[arg(long, value_name = "D", default_value = "/var/lib/corten", env = "CORTEN_DATA_DIR")]
    pub data_dir: PathBuf,
}

impl Which {
    pub fn directory(&self) -> anyhow::Result<crate::cluster::Directory> {
        crate::cluster::Directory::new(&self.data_dir)
    }
}
