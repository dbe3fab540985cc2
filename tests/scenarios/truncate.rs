//! Shortening and extending files, both untouched ones and ones that are being written.

use super::fixture::*;

const SIZES: [u32; 8] = [0, 31, 32, 33, 511, 2048, 2049, 8193];

#[test]
fn cut_then_read_and_write() {
    for large in [32, 513, 8192, 20_000] {
        for medium in SIZES.into_iter().filter(|&m| m < large) {
            on_each_geometry(|fixture| {
                fixture.fill("baldy", large, 1);
                fixture.power_cycle();
                fixture.truncate("baldy", medium);
                assert_eq!(fixture.read("baldy", 0, large as usize), fixture.expected("baldy"));
                fixture.power_cycle();
                assert_eq!(fixture.read("baldy", u64::from(medium), 4), b"");
                // Write over what was left, and over its end.
                fixture.write("baldy", 0, medium, 2);
                fixture.power_cycle();
                fixture.write("baldy", medium / 2, medium, 3);
            });
        }
    }
}

/// A quarter is cut off, twice, from a file that is being written and read.
#[test]
fn cut_while_open() {
    for size in [64, 256, 4096, 20_000] {
        on_each_geometry(|fixture| {
            fixture.create("sequence");
            let file = fixture.open("sequence");
            fixture.write("sequence", 0, size, 1);
            fixture.truncate("sequence", size - size / 4);
            assert_eq!(fixture.ours.read(file).expect("read"), fixture.expected("sequence"));
            fixture.truncate("sequence", size / 2);
            let half = fixture.read("sequence", u64::from(size / 4), size as usize);
            assert_eq!(half, fixture.expected("sequence")[size as usize / 4..]);
            fixture.ours.fs.close_file(file);
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
                let mut fixture = Fixture::new(testkit::clfs::Config::new(512, 256, 16));
                fixture.create("hairyhead");
                let file = fixture.open("hairyhead");
                fixture.write("hairyhead", 0, start, 1);
                fixture.write("hairyhead", start / 2, start / 4, 2);
                fixture.truncate("hairyhead", hot);
                fixture.ours.fs.close_file(file);
                fixture.power_cycle();
                fixture.truncate("hairyhead", cold);
                fixture.power_cycle();
            }
        }
    }
}

/// Truncating a file to its present size changes nothing, also in the image.
#[test]
fn cut_to_the_size_it_has() {
    for size in SIZES {
        on_each_geometry(|fixture| {
            fixture.fill("baldynoop", size, 1);
            fixture.truncate("baldynoop", size);
            fixture.power_cycle();
            let image = fixture.ours.image();
            fixture.truncate("baldynoop", size);
            fixture.flush();
            assert!(fixture.ours.image() == image, "truncating to the same size wrote something");
        });
    }
}
