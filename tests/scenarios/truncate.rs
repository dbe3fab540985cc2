//! Shortening and extending files, both untouched ones and ones that are being written.

use super::lab::*;

const SIZES: [u32; 8] = [0, 31, 32, 33, 511, 2048, 2049, 8193];

#[test]
fn cut_then_read_and_write() {
    for large in [32, 513, 8192, 20_000] {
        for medium in SIZES.into_iter().filter(|&m| m < large) {
            on_each_geometry(|lab| {
                lab.fill("baldy", large, 1);
                lab.power_cycle();
                lab.truncate("baldy", medium);
                assert_eq!(lab.read("baldy", 0, large as usize), lab.expected("baldy"));
                lab.power_cycle();
                assert_eq!(lab.read("baldy", u64::from(medium), 4), b"");
                // Write over what was left, and over its end.
                lab.write("baldy", 0, medium, 2);
                lab.power_cycle();
                lab.write("baldy", medium / 2, medium, 3);
            });
        }
    }
}

/// A quarter is cut off, twice, from a file that is being written and read.
#[test]
fn cut_while_open() {
    for size in [64, 256, 4096, 20_000] {
        on_each_geometry(|lab| {
            lab.create("sequence");
            let file = lab.open("sequence");
            lab.write("sequence", 0, size, 1);
            lab.truncate("sequence", size - size / 4);
            assert_eq!(lab.ours.read(file).expect("read"), lab.expected("sequence"));
            lab.truncate("sequence", size / 2);
            let half = lab.read("sequence", u64::from(size / 4), size as usize);
            assert_eq!(half, lab.expected("sequence")[size as usize / 4..]);
            lab.ours.fs.close_file(file);
        });
    }
}

/// Files are written to one size, shortened or extended while they are open, and changed again
/// later.
#[test]
fn cut_and_extended_hot_and_cold() {
    for start in [0, 32, 2048, 16_384] {
        for hot in [0, 32, 2048, 8192, 16_384] {
            for cold in [0, 33, 8191, 16_384] {
                let mut lab = Lab::new(testkit::clfs::Config::new(512, 256, 16));
                lab.create("hairyhead");
                let file = lab.open("hairyhead");
                lab.write("hairyhead", 0, start, 1);
                lab.write("hairyhead", start / 2, start / 4, 2);
                lab.truncate("hairyhead", hot);
                lab.ours.fs.close_file(file);
                lab.power_cycle();
                lab.truncate("hairyhead", cold);
                lab.power_cycle();
            }
        }
    }
}

/// Truncating a file to its present size changes nothing, also in the image.
#[test]
fn cut_to_the_size_it_has() {
    for size in SIZES {
        on_each_geometry(|lab| {
            lab.fill("baldynoop", size, 1);
            lab.truncate("baldynoop", size);
            lab.power_cycle();
            let image = lab.ours.image();
            lab.truncate("baldynoop", size);
            lab.flush();
            assert!(lab.ours.image() == image, "truncating to the same size wrote something");
        });
    }
}
