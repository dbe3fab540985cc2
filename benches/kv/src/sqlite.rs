//! SQLite: one table without row ids, write-ahead log, a transaction for every put.

use std::path::Path;

use rusqlite::Connection;

use crate::{Durable, Key, Store, Use, Value};

/// A connection, and the value of its pragma `synchronous` during puts.
struct Sqlite(Connection, &'static str);

pub fn with(dir: &Path, _count: usize, durable: Durable, run: Use<'_>) {
    let db = Connection::open(dir.join("db")).expect("database");
    let synchronous = match durable {
        Durable::Each => "FULL",
        Durable::AtTheEnd => "OFF",
    };
    db.execute_batch(&format!(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = {synchronous};
         CREATE TABLE kv (key BLOB PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;"
    ))
    .expect("table");
    run(&mut Sqlite(db, synchronous));
}

impl Store for Sqlite {
    fn put(&mut self, key: &Key, value: &Value) {
        self.0
            .prepare_cached("INSERT OR REPLACE INTO kv VALUES (?, ?)")
            .and_then(|mut s| s.execute((key, value)))
            .expect("insert");
    }

    fn put_all(&mut self, entries: &[(Key, Value)]) {
        let transaction = self.0.transaction().expect("transaction");
        for (key, value) in entries {
            transaction
                .prepare_cached("INSERT OR REPLACE INTO kv VALUES (?, ?)")
                .and_then(|mut s| s.execute((key, value)))
                .expect("insert");
        }
        transaction.commit().expect("commit");
    }

    fn sync(&mut self) {
        // this syncs the log and the database, whatever `synchronous` was during the puts
        self.0
            .execute_batch("PRAGMA synchronous = FULL; PRAGMA wal_checkpoint(TRUNCATE);")
            .expect("checkpoint");
        let before = format!("PRAGMA synchronous = {}", self.1);
        self.0.execute_batch(&before).expect("pragma");
    }

    fn get(&mut self, key: &Key) -> Value {
        self.0
            .prepare_cached("SELECT value FROM kv WHERE key = ?")
            .and_then(|mut s| s.query_row((key,), |row| row.get(0)))
            .expect("select")
    }

    fn scan(&mut self, reverse: bool) -> usize {
        let order = if reverse { "DESC" } else { "ASC" };
        let select = format!("SELECT key, value FROM kv ORDER BY key {order}");
        let mut s = self.0.prepare(&select).expect("select");
        let rows = s.query_map((), |row| Ok((row.get::<_, Key>(0)?, row.get::<_, Value>(1)?)));
        rows.expect("select").map(|row| std::hint::black_box(row.expect("row"))).count()
    }
}
