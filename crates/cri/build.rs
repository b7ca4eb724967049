//! Compiles the interface file without protoc.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=proto");
    let files = protox::compile(["proto/api.proto", "proto/events.proto"], ["proto"])?;
    tonic_prost_build::configure()
        .build_server(false)
        .build_transport(false)
        .btree_map(".runtime.v1")
        .skip_debug([".runtime.v1.AuthConfig", ".runtime.v1.PullImageRequest"])
        .compile_fds(files)?;
    Ok(())
}
