//! The states of an image that result from the entries of a journal.

use std::collections::HashSet;

use super::Reason;
use super::format::{Fingerprint, Head, Header, Kind};
use super::scan::{Entry, Payload, Scan};

/// The savepoint that `littlefs run` sets at the state before the run. The next revert or commit
/// removes it.
pub const RUN: &str = "littlefs-run";

/// A state of the image: before all transactions, or after one of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum At {
    /// The last state.
    Last,
    /// The state after the transaction with this number. State 0 is before all transactions.
    Number(u64),
    /// The state at a savepoint.
    Name(String),
}

impl At {
    /// A state by its number, or else by its name.
    pub fn parse(text: &str) -> Self {
        match text.parse() {
            Ok(number) if text.bytes().all(|b| b.is_ascii_digit()) => Self::Number(number),
            _ => Self::Name(text.to_owned()),
        }
    }
}

/// The fate of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is in force.
    Live,
    /// A revert dropped it.
    Reverted,
    /// It is in the image.
    Committed,
}

/// A transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transaction {
    /// Its number.
    pub number: u64,
    /// When it was written, in nanoseconds since 1970.
    pub time: i64,
    /// The positions in the file at which it starts and ends.
    pub place: (u64, u64),
    /// Its fate.
    pub fate: Fate,
}

impl Transaction {
    /// Bytes it takes in the file.
    pub fn bytes(&self) -> u64 {
        self.place.1 - self.place.0
    }
}

/// A named state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Savepoint {
    /// Its name.
    pub name: String,
    /// The transaction after which it was set.
    pub number: u64,
    /// When it was set, in nanoseconds since 1970.
    pub time: i64,
}

/// All transactions, savepoints, reverts and commits of a journal.
#[derive(Debug, Clone)]
pub struct History {
    /// All transactions, by number.
    pub transactions: Vec<Transaction>,
    /// Indices in `transactions` of those that apply to the image.
    live: Vec<usize>,
    /// The savepoints whose states can be reached, by number; if a name was set several times, the
    /// last savepoint counts.
    savepoints: Vec<Savepoint>,
    /// The state that the image is in.
    pub base: u64,
    /// The fingerprint of the image in that state.
    pub fingerprint: Fingerprint,
    /// The fingerprint that the image will have after a commit that was begun but is not finished.
    pub begun: Option<Fingerprint>,
    /// The state at [`RUN`], until a revert or a commit.
    pub run: Option<u64>,
    /// The number of the next transaction.
    pub next: u64,
}

impl History {
    /// The history before the first entry.
    pub fn new(header: &Header) -> Self {
        Self {
            transactions: Vec::new(),
            live: Vec::new(),
            savepoints: Vec::new(),
            base: header.base,
            fingerprint: header.fingerprint,
            begun: None,
            run: None,
            next: header.given.max(header.base).saturating_add(1),
        }
    }

    /// The history that the entries describe.
    ///
    /// # Errors
    /// When they contradict each other.
    pub fn of(scan: &Scan) -> Result<Self, Reason> {
        let mut this = Self::new(&scan.header);
        for entry in &scan.entries {
            this.add(entry).map_err(|what| Reason::Damaged {
                at: entry.start,
                what: format!("entry {} {what}", entry.head.sequence),
            })?;
        }
        Ok(this)
    }

    /// Add one more entry.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn add(&mut self, entry: &Entry) -> Result<(), &'static str> {
        let number = entry.head.number;
        if self.begun.is_some() && entry.head.kind != Kind::CommitDone {
            return Err("comes before the end of a commit");
        }
        match (entry.head.kind, &entry.payload) {
            (Kind::Transaction, _) => self.add_transaction(entry),
            (Kind::Savepoint, Payload::Name(name)) => self.add_savepoint(entry.head, name),
            (Kind::Revert, _) => self.revert(number),
            (Kind::CommitBegun, Payload::Fingerprint(image)) => self.begin_commit(number, *image),
            (Kind::CommitDone, Payload::Fingerprint(image)) => self.end_commit(number, *image),
            _ => Err("has content that does not match its kind"),
        }
    }

    fn add_transaction(&mut self, entry: &Entry) -> Result<(), &'static str> {
        let Head { number, time, .. } = entry.head;
        let squashed = self.transactions.is_empty() && number > self.base;
        if (number < self.next && !squashed) || number == u64::MAX {
            return Err("has the number of another transaction");
        }
        self.next = self.next.max(number + 1);
        self.live.push(self.transactions.len());
        let place = (entry.start, entry.end);
        self.transactions.push(Transaction { number, time, place, fate: Fate::Live });
        Ok(())
    }

    fn add_savepoint(&mut self, head: Head, name: &str) -> Result<(), &'static str> {
        let Head { number, time, .. } = head;
        if number != self.last() {
            return Err("names a state that is not the last one");
        }
        if name == RUN {
            self.run = Some(number);
        }
        self.savepoints.push(Savepoint { name: name.to_owned(), number, time });
        Ok(())
    }

    fn revert(&mut self, number: u64) -> Result<(), &'static str> {
        if self.check(number).is_err() {
            return Err("reverts to a state that cannot be reached");
        }
        self.run = None;
        while self.last() > number
            && let Some(t) = self.live.pop().and_then(|i| self.transactions.get_mut(i))
        {
            t.fate = Fate::Reverted;
        }
        while self.savepoints.pop_if(|s| s.number > number).is_some() {}
        Ok(())
    }

    fn begin_commit(&mut self, number: u64, image: Fingerprint) -> Result<(), &'static str> {
        if number != self.last() {
            return Err("commits a state that is not the last one");
        }
        self.begun = Some(image);
        Ok(())
    }

    fn end_commit(&mut self, number: u64, image: Fingerprint) -> Result<(), &'static str> {
        if number != self.last() || self.begun != Some(image) {
            return Err("ends a commit that was never begun");
        }
        (self.begun, self.run) = (None, None);
        self.base = number;
        self.fingerprint = image;
        let gone = self.savepoints.partition_point(|s| s.number < number);
        self.savepoints.drain(..gone);
        for i in self.live.drain(..) {
            if let Some(t) = self.transactions.get_mut(i) {
                t.fate = Fate::Committed;
            }
        }
        Ok(())
    }

    /// The number of the last state.
    pub fn last(&self) -> u64 {
        let last = self.live.last().and_then(|&i| self.transactions.get(i));
        last.map_or(self.base, |t| t.number)
    }

    /// The transactions that apply to the image.
    pub fn live(&self) -> impl Iterator<Item = &Transaction> {
        self.live.iter().filter_map(|&i| self.transactions.get(i))
    }

    /// The transaction of this number.
    pub fn transaction(&self, number: u64) -> Option<&Transaction> {
        let i = self.transactions.binary_search_by_key(&number, |t| t.number).ok()?;
        self.transactions.get(i)
    }

    /// The savepoints whose states can be reached, in the order in which they were set; each name
    /// once.
    pub fn savepoints(&self) -> Vec<&Savepoint> {
        let mut seen = HashSet::new();
        let mut found: Vec<_> =
            self.savepoints.iter().rev().filter(|s| seen.insert(&s.name)).collect();
        found.reverse();
        found
    }

    /// The number of a state that can be reached.
    ///
    /// # Errors
    /// Why it cannot.
    pub fn find(&self, at: &At) -> Result<u64, Reason> {
        match at {
            At::Last => Ok(self.last()),
            At::Number(number) => self.check(*number).map(|()| *number),
            At::Name(name) => self
                .savepoints
                .iter()
                .rev()
                .find(|s| s.name == *name)
                .map(|s| s.number)
                .ok_or_else(|| Reason::NoSavepoint(name.clone())),
        }
    }

    fn check(&self, number: u64) -> Result<(), Reason> {
        if number == self.base {
            return Ok(());
        }
        if number < self.base {
            return Err(Reason::Committed { number, base: self.base });
        }
        match self.transaction(number).map(|t| t.fate) {
            Some(Fate::Live) => Ok(()),
            Some(Fate::Reverted) => Err(Reason::Reverted(number)),
            Some(Fate::Committed) | None => {
                Err(Reason::NoTransaction { number, last: self.last() })
            }
        }
    }
}
