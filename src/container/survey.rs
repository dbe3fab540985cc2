//! All that is in a file: filesystems, and the partition tables that name them.

use std::io;

use super::{Found, Label, Layout, ReadAt, Scan, Table, esp32, rp2};

/// Filesystems and partition tables.
#[derive(Debug, Default)]
pub struct Survey {
    /// Filesystems by ascending position, sound and doubtful ones.
    pub found: Vec<Found>,
    /// Partition tables by ascending position.
    pub tables: Vec<Table>,
    /// What chip the program at the start is for, and where such programs have their filesystems.
    pub layout: Option<Layout>,
    /// Bytes that were searched.
    pub searched: u64,
    /// Why some bytes could not be read.
    pub failed: Option<io::Error>,
}

impl Survey {
    /// Look through the first `limit` bytes.
    ///
    /// # Errors
    /// When the size of the source cannot be found out.
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
        }
        Ok(Self { found, tables, layout, searched: scan.end, failed: scan.failed })
    }

    /// The filesystems that can be meant where nothing was said: those without a doubt; where a
    /// partition table names some of them, those.
    pub fn meant(&self) -> Vec<&Found> {
        let sound: Vec<&Found> = self.found.iter().filter(|found| found.doubt.is_none()).collect();
        let named: Vec<&Found> =
            sound.iter().filter(|found| found.label.is_some()).copied().collect();
        if named.is_empty() { sound } else { named }
    }

    /// Labels of partitions.
    pub fn labels(&self) -> Vec<Label> {
        let partitions = self.tables.iter().flat_map(|table| &table.partitions);
        partitions.map(|partition| partition.label).collect()
    }
}
