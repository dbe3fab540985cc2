//! Write the seeds of every target into `fuzz/corpus`: images made here, and options.

use std::fs;
use std::path::Path;

use littlefs_fuzz::mutate;

fn main() -> std::io::Result<()> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for target in ["pair", "mount", "change", "options"] {
        fs::create_dir_all(corpus.join(target))?;
    }
    for (i, (_, g, image)) in mutate::bases().into_iter().enumerate() {
        for target in ["mount", "change"] {
            fs::write(corpus.join(target).join(format!("image{i}")), &image)?;
        }
        for (k, block) in image.chunks(g.block_size as usize).enumerate() {
            if block.iter().any(|&b| b != 0xff) {
                fs::write(corpus.join("pair").join(format!("block{i}-{k}")), block)?;
            }
        }
    }
    let options = [
        "ro,block_size=4K,block_count=256,offset=0x1000,prog_size=16",
        "uid=1000,gid=100,umask=022,fmask=0133,dmask=0,commit=30",
        "defaults,noauto,nofail,_netdev,x-systemd.automount,allow_other,sync",
    ];
    for (i, list) in options.iter().enumerate() {
        fs::write(corpus.join("options").join(format!("list{i}")), list)?;
    }
    Ok(())
}
