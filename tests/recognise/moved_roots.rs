//! Roots that move leave copies of the superblock in many blocks. Wherever they are, nothing is written
//! if the filesystem may start at another place.

use littlefs::image::{Opened, Options, Place};

use crate::fixture::{open, open_at};
use testkit::clfs::{CLfs, Config};
use testkit::random::Random;

/// How many images each test makes.
const IMAGES: u64 = 250;

/// A small device whose pairs move often.
fn config(random: &mut Random) -> Config {
    let block_size = [128, 256, 512][random.below(3)];
    let mut config = Config::new(block_size, 20 + random.below(16) as u32, 16);
    config.block_cycles = 1 + random.below(5) as i32;
    config
}

/// Some changes, up to a loss of power. The image is what is on flash then.
fn changed(config: &Config, random: &mut Random, with_cut: bool) -> Vec<u8> {
    let mut c = CLfs::fresh(config).expect("a filesystem");
    let steps = 6 + random.below(60);
    let cut = steps - 1 - random.below(5);
    for step in 0..steps {
        if with_cut && step == cut {
            c.cut_power_after(random.below(12) as u64);
        }
        let path = format!("{}f{}", ["", "d0/", "d1/"][random.below(3)], random.below(2));
        let len = [0, 20, 60, 2 * config.block_size as usize][random.below(4)];
        // a file cannot be closed without power
        let is_last = with_cut && step >= cut;
        let done = match random.below(if is_last { 3 } else { 10 }) {
            0 => c.mkdir(format!("d{}", random.below(2)).as_bytes()),
            1 | 2 => c.remove(path.as_bytes()),
            _ => c.write_file(path.as_bytes(), &vec![step as u8; len]),
        };
        // without power, the driver must not be called again
        if done.is_err() && is_last {
            break;
        }
    }
    c.unmount()
}

fn open_anywhere(bytes: &[u8]) -> Option<Opened> {
    open(bytes, &Options { place: Place::Auto, ..Options::default() }).ok()
}

/// The image between other bytes, and the place where it starts there.
fn in_flash(image: &[u8], block_size: usize) -> (Vec<u8>, u64) {
    let around = |blocks: usize| (0..blocks * block_size).map(|i| (i * 7 % 251) as u8);
    let flash = around(5).chain(image.iter().copied()).chain(around(3)).collect();
    (flash, 5 * block_size as u64)
}

#[test]
fn an_intact_image_is_opened_where_it_starts() {
    let mut in_doubt = 0;
    for seed in 1..=IMAGES {
        let mut random = Random(seed);
        let config = config(&mut random);
        let image = changed(&config, &mut random, false);
        let (flash, start) = in_flash(&image, config.block_size as usize);
        let opened = open_anywhere(&image).expect("it starts at the first byte");
        assert_eq!((opened.offset, opened.doubt), (0, None), "seed {seed}");
        let opened = open_at(&flash, start).expect("it starts there");
        assert_eq!(opened.doubt, None, "seed {seed}");
        // without a given place, the copies may look like another filesystem
        match open_anywhere(&flash) {
            Some(opened) if opened.doubt.is_none() => assert_eq!(opened.offset, start),
            _ => in_doubt += 1,
        }
    }
    println!("{in_doubt} intact images raise a doubt inside of a larger file");
    assert!(in_doubt * 50 <= IMAGES, "{in_doubt}");
}

#[test]
fn an_interrupted_write_raises_no_doubt() {
    let (mut in_doubt, mut lost) = (0, 0);
    for seed in 1..=5 * IMAGES {
        let mut random = Random(seed);
        let config = config(&mut random);
        let image = changed(&config, &mut random, true);
        let opened = open_anywhere(&image).expect("the driver mounts it");
        assert_eq!((opened.offset, opened.doubt), (0, None), "seed {seed}");
        if opened.lost.is_none() {
            continue;
        }
        lost += 1;
        let (flash, start) = in_flash(&image, config.block_size as usize);
        match open_anywhere(&flash) {
            Some(opened) if opened.doubt.is_none() => assert_eq!(opened.offset, start),
            _ => in_doubt += 1,
        }
    }
    println!("of {lost} lost superblocks, {in_doubt} raise a doubt inside of a larger file");
    assert!(lost > 0);
}

#[test]
fn a_lost_superblock_is_not_looked_for_in_copies() {
    let losses: [fn(&mut [u8]); 4] = [
        |block| block.fill(0xff),
        |block| block.fill(0),
        |block| block[8..16].fill(0),
        |block| block.iter_mut().for_each(|b| *b = b.rotate_left(3) ^ 0x5a),
    ];
    let (mut writable, mut not_writable, mut wrong) = (0, 0, Vec::new());
    for seed in 1..=IMAGES {
        let mut random = Random(seed);
        let config = config(&mut random);
        let image = changed(&config, &mut random, false);
        let size = config.block_size as usize;
        for (lost, loss) in losses.iter().flat_map(|loss| [(0, loss), (1, loss)]) {
            let mut image = image.clone();
            loss(&mut image[lost * size..][..size]);
            let flash = in_flash(&image, size);
            for (bytes, start) in [(image, 0), flash] {
                match open_anywhere(&bytes).filter(|opened| opened.doubt.is_none()) {
                    Some(opened) if opened.offset == start => writable += 1,
                    Some(_) => wrong.push((seed, lost, start)),
                    None => not_writable += 1,
                }
            }
        }
    }
    println!("writable {writable}, not writable {not_writable}, wrong {}", wrong.len());
    assert!(writable > not_writable);
    // If a file is as large as its filesystem, there is no other place. In a larger one, two copies
    // of a root without a tree look exactly like a new filesystem.
    assert!(wrong.iter().all(|(_, _, start)| *start > 0), "{wrong:?}");
    assert!(wrong.len() * 500 <= writable, "{wrong:?}");
}
