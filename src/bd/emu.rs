//! An emulated device for tests. It records what was written and when that became durable, and its
//! calls fail when a test demands it.
//!
//! Everything works on an image in RAM. [`crash`] makes crash images from the recorded log.

pub mod crash;

use std::collections::HashMap;
use std::io;

use parking_lot::{Mutex, MutexGuard};

use super::{BlockDevice, Geometry, IoResult, SECTOR, byte_offset, check_range};
use crate::error::{IoError, IoOp};

/// One thing that happened to the device, in the order of the calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Bytes were written: a program, or the 0xFF of an erase.
    Write {
        /// Byte position in the image.
        start: usize,
        /// What was written there.
        data: Vec<u8>,
    },
    /// A barrier or sync succeeded: everything before it is durable.
    Barrier,
}

/// A device call that can be made to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Call {
    /// [`BlockDevice::read`].
    Read,
    /// [`BlockDevice::prog`].
    Prog,
    /// [`BlockDevice::erase`].
    Erase,
    /// [`BlockDevice::barrier`].
    Barrier,
    /// [`BlockDevice::sync`].
    Sync,
}

impl Call {
    fn op(self) -> IoOp {
        match self {
            Self::Read => IoOp::Read,
            Self::Prog => IoOp::Prog,
            Self::Erase => IoOp::Erase,
            Self::Barrier | Self::Sync => IoOp::Sync,
        }
    }
}

/// How a bad block behaves: the modes of littlefs's own emulated device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BadBlock {
    /// Programs fail with EIO and change nothing.
    ProgError,
    /// Erases fail with EIO and change nothing.
    EraseError,
    /// Reads fail with EIO.
    ReadError,
    /// Programs succeed and change nothing.
    ProgNoop,
    /// Neither erases nor programs change anything, and both succeed.
    EraseNoop,
}

/// A failure that will happen once.
#[derive(Debug, Clone, Copy)]
struct Fault {
    call: Call,
    /// How many calls of this kind succeed before.
    after: u64,
    errno: i32,
}

struct State {
    image: Vec<u8>,
    log: Vec<Event>,
    recording: bool,
    fault: Option<Fault>,
    bad: HashMap<u32, BadBlock>,
    calls: u64,
}

impl State {
    /// The error of this call, if it is the call that must fail.
    fn fail(&mut self, call: Call, block: Option<u32>) -> IoResult<()> {
        self.calls += 1;
        match &mut self.fault {
            Some(f) if f.call == call && f.after == 0 => {
                let errno = f.errno;
                self.fault = None;
                Err(io_error(call, block, errno))
            }
            Some(f) if f.call == call => {
                f.after -= 1;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn write(&mut self, start: usize, data: &[u8]) {
        self.image[start..start + data.len()].copy_from_slice(data);
        if self.recording {
            self.log.push(Event::Write { start, data: data.to_vec() });
        }
    }
}

fn io_error(call: Call, block: Option<u32>, errno: i32) -> IoError {
    IoError { op: call.op(), block, source: io::Error::from_raw_os_error(errno) }
}

/// An emulated device.
pub struct EmuDevice {
    geometry: Geometry,
    read_back: bool,
    state: Mutex<State>,
}

impl EmuDevice {
    /// A device over `image`, padded with 0xFF to the geometry's size. It records from now on.
    pub fn new(geometry: Geometry, mut image: Vec<u8>) -> Self {
        image.resize(geometry.size() as usize, 0xff);
        let state = State {
            image,
            log: Vec::new(),
            recording: true,
            fault: None,
            bad: HashMap::new(),
            calls: 0,
        };
        Self { geometry, read_back: false, state: Mutex::new(state) }
    }

    /// A device that records its writes. With `read_back`, it asks the engine to read back what it
    /// wrote, so that it can have bad blocks.
    pub fn recorded(geometry: Geometry, image: Vec<u8>, read_back: bool) -> Self {
        Self { read_back, ..Self::new(geometry, image) }
    }

    /// Like [`Self::recorded`], without a log.
    pub fn unrecorded(geometry: Geometry, image: Vec<u8>, read_back: bool) -> Self {
        let mut dev = Self { read_back, ..Self::new(geometry, image) };
        dev.state.get_mut().recording = false;
        dev
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// A copy of all bytes, durable or not.
    pub fn image(&self) -> Vec<u8> {
        self.state().image.clone()
    }

    /// Events recorded so far.
    pub fn log_len(&self) -> usize {
        self.state().log.len()
    }

    /// Whether everything recorded is durable.
    pub fn is_ordered(&self) -> bool {
        self.state().log.last().is_none_or(|e| *e == Event::Barrier)
    }

    /// Take the log, leaving an empty one.
    pub fn take_log(&self) -> Vec<Event> {
        std::mem::take(&mut self.state().log)
    }

    /// Let one call fail with `errno`, once `after` more calls of its kind have succeeded. Half
    /// of the bytes of a program or erase that fails are written.
    pub fn fail_after(&self, call: Call, after: u64, errno: i32) {
        self.state().fault = Some(Fault { call, after, errno });
    }

    /// Cancel a failure that has not happened yet. Returns whether there was one.
    pub fn cancel_fault(&self) -> bool {
        self.state().fault.take().is_some()
    }

    /// Make `block` a bad one.
    pub fn set_bad(&self, block: u32, how: BadBlock) {
        self.state().bad.insert(block, how);
    }

    /// Device calls of all kinds so far.
    pub fn calls(&self) -> u64 {
        self.state().calls
    }

    fn order(&self, call: Call) -> IoResult<()> {
        let mut state = self.state();
        state.fail(call, None)?;
        if state.recording && state.log.last() != Some(&Event::Barrier) {
            state.log.push(Event::Barrier);
        }
        Ok(())
    }
}

impl BlockDevice for EmuDevice {
    fn geometry(&self) -> Geometry {
        self.geometry
    }

    fn read(&self, block: u32, off: u32, buf: &mut [u8]) -> IoResult<()> {
        let start = check_range(self.geometry, IoOp::Read, block, off, buf.len())? as usize;
        let mut state = self.state();
        state.fail(Call::Read, Some(block))?;
        let end = start + buf.len().max(1);
        let last = (end - 1) / self.geometry.block_size as usize;
        for b in block..=last as u32 {
            if state.bad.get(&b) == Some(&BadBlock::ReadError) {
                return Err(io_error(Call::Read, Some(b), libc::EIO));
            }
        }
        buf.copy_from_slice(&state.image[start..start + buf.len()]);
        Ok(())
    }

    fn prog(&self, block: u32, off: u32, data: &[u8]) -> IoResult<()> {
        let start = check_range(self.geometry, IoOp::Prog, block, off, data.len())? as usize;
        let mut state = self.state();
        if let Err(e) = state.fail(Call::Prog, Some(block)) {
            state.write(start, &data[..data.len() / 2]);
            return Err(e);
        }
        match state.bad.get(&block) {
            Some(BadBlock::ProgError) => Err(io_error(Call::Prog, Some(block), libc::EIO)),
            Some(BadBlock::ProgNoop | BadBlock::EraseNoop) => Ok(()),
            _ => {
                state.write(start, data);
                Ok(())
            }
        }
    }

    fn erase(&self, block: u32) -> IoResult<()> {
        let len = self.geometry.block_size as usize;
        let start = check_range(self.geometry, IoOp::Erase, block, 0, len)? as usize;
        let mut state = self.state();
        let erased = vec![0xff; len];
        if let Err(e) = state.fail(Call::Erase, Some(block)) {
            state.write(start, &erased[..len / 2]);
            return Err(e);
        }
        match state.bad.get(&block) {
            Some(BadBlock::EraseError) => Err(io_error(Call::Erase, Some(block), libc::EIO)),
            Some(BadBlock::EraseNoop) => Ok(()),
            _ => {
                state.write(start, &erased);
                Ok(())
            }
        }
    }

    fn barrier(&self) -> IoResult<()> {
        self.order(Call::Barrier)
    }

    fn sync(&self) -> IoResult<()> {
        self.order(Call::Sync)
    }

    fn sector(&self, block: u32, off: u32) -> Option<u64> {
        Some(byte_offset(self.geometry, block, off) / SECTOR)
    }

    fn wants_read_back(&self) -> bool {
        self.read_back
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device() -> EmuDevice {
        EmuDevice::new(Geometry::new(128, 4).expect("geometry"), Vec::new())
    }

    #[test]
    fn the_log_holds_writes_and_barriers_in_order() {
        let dev = device();
        dev.erase(1).expect("erase");
        dev.prog(1, 8, b"abc").expect("prog");
        dev.barrier().expect("barrier");
        dev.sync().expect("sync");
        let log = dev.take_log();
        assert_eq!(log[0], Event::Write { start: 128, data: vec![0xff; 128] });
        assert_eq!(log[1], Event::Write { start: 136, data: b"abc".to_vec() });
        assert_eq!(log[2..], [Event::Barrier]);
    }

    #[test]
    fn a_fault_fires_once_and_tears_its_write() {
        let dev = device();
        dev.fail_after(Call::Prog, 1, libc::ENOSPC);
        dev.prog(0, 0, b"first").expect("the first prog");
        let e = dev.prog(0, 8, b"torn").expect_err("the second prog");
        assert_eq!(e.source.raw_os_error(), Some(libc::ENOSPC));
        assert_eq!(&dev.image()[..12], b"first\xff\xff\xffto\xff\xff");
        assert!(!dev.cancel_fault());
        dev.prog(0, 8, b"done").expect("the third prog");
    }

    #[test]
    fn a_failed_barrier_orders_nothing() {
        let dev = device();
        dev.fail_after(Call::Barrier, 0, libc::EIO);
        assert!(dev.barrier().is_err());
        assert_eq!(dev.log_len(), 0);
    }
}
