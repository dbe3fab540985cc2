//! Pairs that move to other blocks while their directory is split, listed, or grows in little
//! space.

use littlefs::fs::Node;

use testkit::clfs::Config;

use super::lab::*;

const COUNT: u32 = 10;

fn long(i: u32) -> String {
    format!("child/test{i:03}_loooooooooooooooooong_name")
}

/// An image with about sixteen free blocks, and a directory.
fn narrow(cycles: u32) -> Lab {
    let config = Config::new(512, 200, 16);
    let mut lab = Lab::with_cycles(config, cycles);
    lab.create("padding");
    let file = lab.open("padding");
    while lab.free() > 18 {
        let size = lab.expected("padding").len() as u32;
        lab.write("padding", size, 512, 1);
        lab.flush();
    }
    lab.ours.fs.close_file(file);
    lab.mkdir("child");
    lab.power_cycle();
    lab
}

#[test]
fn directory_splits_and_empties_in_little_space() {
    for cycles in [8, 1] {
        let mut lab = narrow(cycles);
        for round in 0..12 {
            for i in 0..COUNT {
                lab.create(&long(i));
                lab.flush();
            }
            let want: Vec<_> = (0..COUNT).map(|i| long(i)["child/".len()..].to_string()).collect();
            assert_eq!(lab.names("child"), want);
            if round % 3 == 2 {
                lab.power_cycle();
            }
            for i in 0..COUNT {
                lab.unlink(&long(i));
                lab.flush();
            }
        }
        lab.power_cycle();
    }
}

/// Every entry that a listing reaches is written at once, and this moves its pair.
#[test]
fn listing_outlives_relocations() {
    for cycles in [8, 1] {
        let mut lab = narrow(cycles);
        for _ in 0..8 {
            for i in 0..COUNT {
                lab.create(&long(i));
                lab.flush();
            }
            for size in [0, 2] {
                let dir = find_dir(&mut lab.ours.fs, b"child").expect("there");
                for (i, name) in lab.ours.fs.list(dir).expect("list").into_iter().enumerate() {
                    let node = lab.ours.fs.lookup(dir, &name).expect("listed");
                    assert_eq!(node, Node::File { size });
                    lab.write(&long(i as u32), 0, 2, 5);
                    lab.flush();
                }
            }
            lab.power_cycle();
            for i in 0..COUNT {
                lab.unlink(&long(i));
            }
        }
        lab.power_cycle();
    }
}
