//! LMDB: one database, a transaction for every put.

#![expect(unsafe_code)]

use std::path::Path;

use heed::types::Bytes;
use heed::{CommitOrAbort, Database, Env, EnvFlags, EnvOpenOptions};

use crate::{Durable, Key, Store, Use, Value};

struct Lmdb {
    env: &'static Env,
    db: Database<'static, Bytes, Bytes>,
}

pub fn with(dir: &Path, _count: usize, durable: Durable, run: Use<'_>) {
    let mut options = EnvOpenOptions::new();
    options.map_size(4 << 30);
    if durable == Durable::AtTheEnd {
        // SAFETY: the file is not used after a crash: it is temporary, like this process.
        unsafe { options.flags(EnvFlags::NO_SYNC) };
    }
    // SAFETY: the file is new, and nobody else uses it.
    let env = unsafe { options.open(dir) }.expect("environment");
    // the database borrows it, until the process ends
    let env: &'static Env = Box::leak(Box::new(env));
    let txn = env.write_txn().expect("transaction");
    let db = env
        .create_databases_and_commit(txn, |make, txn| {
            make.create_database(txn, None).map(CommitOrAbort::<_, ()>::Commit)
        })
        .expect("database")
        .unwrap_commit();
    run(&mut Lmdb { env, db });
}

impl Store for Lmdb {
    fn put(&mut self, key: &Key, value: &Value) {
        let mut txn = self.env.write_txn().expect("transaction");
        self.db.put(&mut txn, key, value).expect("put");
        txn.commit().expect("commit");
    }

    fn put_all(&mut self, entries: &[(Key, Value)]) {
        let mut txn = self.env.write_txn().expect("transaction");
        for (key, value) in entries {
            self.db.put(&mut txn, key, value).expect("put");
        }
        txn.commit().expect("commit");
    }

    fn sync(&mut self) {
        self.env.force_sync().expect("sync");
    }

    fn get(&mut self, key: &Key) -> Value {
        let txn = self.env.read_txn().expect("transaction");
        let value = self.db.get(&txn, key).expect("get").expect("the key is there");
        value.try_into().expect("a value of 100 bytes")
    }

    fn scan(&mut self, reverse: bool) -> usize {
        let txn = self.env.read_txn().expect("transaction");
        if reverse {
            let entries = self.db.rev_iter(&txn).expect("iterator");
            return entries.map(|e| std::hint::black_box(e.expect("entry").1[0])).count();
        }
        let entries = self.db.iter(&txn).expect("iterator");
        entries.map(|e| std::hint::black_box(e.expect("entry").1[0])).count()
    }
}
