//! A journal of any entries, with correct checksums, over a formatted image. Every state must be
//! readable.
#![no_main]

use std::io;
use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use littlefs::bd::{BlockDevice, Geometry, RamDevice};
use littlefs::fs::{FormatOptions, Fs, OpenOptions};
use littlefs::transactions::format::{Head, Header, Kind, entry};
use littlefs::transactions::scan::scan;
use littlefs::transactions::{History, JournalDevice, JournalFile};

struct Bytes(Vec<u8>);

impl JournalFile for Bytes {
    fn size(&self) -> io::Result<u64> {
        Ok(self.0.len() as u64)
    }

    fn read(&self, at: u64, buf: &mut [u8]) -> io::Result<usize> {
        let rest = usize::try_from(at).ok().and_then(|at| self.0.get(at..)).unwrap_or_default();
        let n = rest.len().min(buf.len());
        buf[..n].copy_from_slice(&rest[..n]);
        Ok(n)
    }

    fn read_now(&self, _at: u64, _part: &mut [u8]) -> bool {
        false
    }

    fn write(&self, _at: u64, _data: &[u8]) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn truncate(&self, _len: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}

/// A journal with the entries of the input, which are kind, number, length and body.
fn journal(g: Geometry, mut data: &[u8]) -> Vec<u8> {
    let header = Header {
        id: 1,
        time: 0,
        geometry: g,
        offset: 0,
        image_size: g.size(),
        fingerprint: [0; 32],
        base: 0,
        given: 0,
        path: Vec::new(),
    };
    let mut bytes = header.to_bytes();
    let (_, _, mut previous) = Header::from_bytes(&bytes).expect("made here");
    let kinds =
        [Kind::Transaction, Kind::Savepoint, Kind::Revert, Kind::CommitBegun, Kind::CommitDone];
    for sequence in 1.. {
        let [kind, number, low, high, rest @ ..] = data else { break };
        let len = usize::from(u16::from_le_bytes([*low, *high])).min(rest.len());
        let (body, behind) = rest.split_at(len);
        let kind = kinds[usize::from(*kind) % kinds.len()];
        let head = Head { kind, sequence, number: u64::from(*number), time: 0, id: 1, previous };
        let (entry, sum) = entry(&head, body);
        bytes.extend(entry);
        (previous, data) = (sum, behind);
    }
    bytes
}

fuzz_target!(|data: &[u8]| {
    let g = Geometry::new(512, 64).expect("possible");
    let base = Arc::new(RamDevice::new(g));
    Fs::format(&*base, &FormatOptions::default()).expect("format");
    let file = Arc::new(Bytes(journal(g, data)));
    let Ok(scan) = scan(&*file) else { return };
    let Ok(history) = History::of(&scan) else { return };
    for number in [history.base, history.last()] {
        let dev = JournalDevice::past(base.clone(), file.clone(), &history, number);
        let dev = dev.expect("both can be reached");
        dev.read(0, 0, &mut vec![0; g.size() as usize]).expect("every state is readable");
        if let Ok(mut fs) = Fs::open(Arc::new(dev), &OpenOptions::default()) {
            littlefs_fuzz::walk(&mut fs);
        }
    }
});
