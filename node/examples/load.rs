#![allow(clippy::all, clippy::print_stdout, clippy::unwrap_used, clippy::disallowed_methods)]
use berth_node::{datastore::*, images::*, options::Limits};
use std::sync::Arc;
fn main() {
    actix_rt::System::new().block_on(async {
        let dir = std::env::args().nth(1).unwrap();
        std::fs::create_dir_all(&dir).unwrap();
        let ds = Arc::new(Datastore::register(&DatastoreOptions{name:"x".into(),path:dir.into(),labels:Default::default()}).unwrap());
        let m = berth_metrics::node::NodeMetrics::register(&berth_metrics::Registry::new()).unwrap();
        let l = Loader::new(berth_model::HostId::from_bytes([1;16]), "sqfstar".into(), &Limits::default(), m);
        for f in std::env::args().skip(2) {
            let t = std::time::Instant::now();
            let mut inc = l.begin(ds.clone()).await.unwrap();
            use std::io::Read;
            let mut file = std::fs::File::open(&f).unwrap();
            loop { let mut b = vec![0; 256<<10]; let n = file.read(&mut b).unwrap(); if n==0 {break} b.truncate(n);
              match inc.push(b).await { Ok(i)=>inc=i, Err(e)=>{println!("{e}");return} } }
            let t1 = t.elapsed();
            let (s, mut r) = tokio::sync::mpsc::channel(10000);
            let o = inc.finish(s).await;
            let mut n=0; while r.recv().await.is_some(){n+=1}
            println!("{f}: spool {:?} total {:?} progress {n} {:?}", t1, t.elapsed(), o.failure);
            for i in o.loaded { println!("  {} {:?} size {} cmd {:?} base {}", i.id, i.references, i.size, i.config.command, std::fs::metadata(ds.base(i.id)).unwrap().len()); }
        }
    });
}
