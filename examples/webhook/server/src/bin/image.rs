//! Makes the image of the example as an archive that `corten image import` takes:
//! `image PROGRAM ARCHIVE`.

use std::path::Path;

use anyhow::{Context, Result, bail};

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [program, archive] = args.as_slice() else { bail!("usage: image PROGRAM ARCHIVE") };
    oci::Image::new("webhook-example.local/server:1")
        .program(Path::new(program), "/webhook-example")?
        .entrypoint(&["/webhook-example"])
        .user("65534:65534")
        .write_to(Path::new(archive))
        .with_context(|| format!("writing {archive}"))
}
