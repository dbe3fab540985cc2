//! Pairs that move to other blocks while their directory is split, listed, or grows in little
//! space.

use littlefs::fs::Node;

use testkit::clfs::Config;

use super::fixture::*;

const COUNT: u32 = 10;

fn long(i: u32) -> String {
    format!("child/test{i:03}_loooooooooooooooooong_name")
}

/// An image with about sixteen free blocks, and a directory.
fn narrow(cycles: u32) -> Fixture {
    let config = Config::new(512, 200, 16);
    let mut fixture = Fixture::with_cycles(config, cycles);
    fixture.create("padding");
    let file = fixture.open("padding");
    while fixture.free() > 18 {
        let size = fixture.expected("padding").len() as u32;
        fixture.write("padding", size, 512, 1);
        fixture.flush();
    }
    fixture.ours.fs.close_file(file);
    fixture.mkdir("child");
    fixture.power_cycle();
    fixture
}

#[test]
fn directory_splits_and_empties_in_little_space() {
    for cycles in [8, 1] {
        let mut fixture = narrow(cycles);
        for round in 0..12 {
            for i in 0..COUNT {
                fixture.create(&long(i));
                fixture.flush();
            }
            let want: Vec<_> = (0..COUNT).map(|i| long(i)["child/".len()..].to_string()).collect();
            assert_eq!(fixture.names("child"), want);
            if round % 3 == 2 {
                fixture.power_cycle();
            }
            for i in 0..COUNT {
                fixture.unlink(&long(i));
                fixture.flush();
            }
        }
        fixture.power_cycle();
    }
}

/// Every entry that a listing reaches is written at once, and this moves its pair.
#[test]
fn listing_outlives_relocations() {
    for cycles in [8, 1] {
        let mut fixture = narrow(cycles);
        for _ in 0..8 {
            for i in 0..COUNT {
                fixture.create(&long(i));
                fixture.flush();
            }
            for size in [0, 2] {
                let dir = find_dir(&mut fixture.ours.fs, b"child").expect("there");
                for (i, name) in fixture.ours.fs.list(dir).expect("list").into_iter().enumerate() {
                    let node = fixture.ours.fs.lookup(dir, &name).expect("listed");
                    assert_eq!(node, Node::File { size });
                    fixture.write(&long(i as u32), 0, 2, 5);
                    fixture.flush();
                }
            }
            fixture.power_cycle();
            for i in 0..COUNT {
                fixture.unlink(&long(i));
            }
        }
        fixture.power_cycle();
    }
}
