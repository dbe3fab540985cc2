//! Everything in a file: filesystems, and the partition tables that name them.

use std::io;

use super::{Doubt, Found, Label, Layout, ReadAt, Scan, Table, esp32, rp2};

/// Filesystems and partition tables.
#[derive(Debug, Default)]
pub struct Survey {
    /// Filesystems in ascending order of their positions, both sound and doubtful ones.
    pub found: Vec<Found>,
    /// Partition tables in ascending order of their positions.
    pub tables: Vec<Table>,
    /// The chip that the program at the start is for, and where such programs have their
    /// filesystems.
    pub layout: Option<Layout>,
    /// How many bytes were searched.
    pub searched: u64,
    /// Why some bytes could not be read.
    pub failed: Option<io::Error>,
}

impl Survey {
    /// Search the first `limit` bytes.
    ///
    /// # Errors
    /// If the size of the source cannot be determined.
    pub fn new(source: &dyn ReadAt, limit: u64) -> io::Result<Self> {
        let scan = Scan::new(source, 0, limit)?;
        let mut found = scan.candidates(source);
        let mut tables = esp32::find(source, limit)?;
        for table in &mut tables {
            esp32::fit(table, &found);
        }
        let layout = Layout::recognise(source)?;
        if let Some(table) = rp2::find(source)? {
            tables.insert(0, table);
        }
        for filesystem in &mut found {
            let mut partitions = tables.iter().flat_map(|table| &table.partitions);
            let begins = partitions.find(|p| p.at == filesystem.at);
            filesystem.label = begins.map(|partition| partition.label);
            // a table says more than what superblocks look like
            if filesystem.label.is_some() && matches!(filesystem.doubt, Some(Doubt::CopiesOf(_))) {
                filesystem.doubt = None;
            }
        }
        Ok(Self { found, tables, layout, searched: scan.end, failed: scan.failed })
    }

    /// The filesystems that a user can mean who does not name one: those without a doubt. If a
    /// partition table names some of these, only those count.
    ///
    /// One that starts inside a doubtful filesystem may be the content of a file there.
    pub fn meant(&self) -> Vec<&Found> {
        let is_inside = |found: &Found| {
            let mut doubtful = self.found.iter().filter(|outer| outer.may_hold_others());
            doubtful.any(|outer| outer.at < found.at && outer.covers(found.at))
        };
        let is_sound =
            |found: &&Found| found.doubt.is_none() && (found.label.is_some() || !is_inside(found));
        let sound: Vec<&Found> = self.found.iter().filter(is_sound).collect();
        let named: Vec<&Found> =
            sound.iter().filter(|found| found.label.is_some()).copied().collect();
        if named.is_empty() { sound } else { named }
    }

    /// The labels of all partitions.
    pub fn labels(&self) -> Vec<Label> {
        let partitions = self.tables.iter().flat_map(|table| &table.partitions);
        partitions.map(|partition| partition.label).collect()
    }
}
