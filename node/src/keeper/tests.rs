//! The keeper as a whole, against real files and a real socket.

use super::*;
use futures_util::FutureExt as _;
use tokio::sync::oneshot;

const HOST: HostId = HostId::from_bytes([4; 16]);
const DEADLINE: Duration = Duration::from_secs(20);

fn options(directory: &Path) -> Options {
    let store = directory.join("store");
    std::fs::create_dir(&store).unwrap();
    let datastore = |name: &str, path| DatastoreOptions {
        name: name.into(),
        path,
        ..DatastoreOptions::default()
    };
    Options {
        host_id: HOST,
        run_directory: directory.to_owned(),
        datastores: vec![datastore("here", store), datastore("away", directory.join("away"))],
        timers: Timers { slow_after: 2, gone_after: 3, node_silent_after: 2 },
    }
}

async fn until(condition: impl AsyncFn() -> bool) {
    let waiting = async {
        while !condition().await {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(DEADLINE, waiting).await.expect("it comes true in time");
}

#[actix_rt::test]
async fn leases_are_renewed_and_the_node_hears_how_they_stand() {
    let directory = tempfile::tempdir().unwrap();
    let options = options(directory.path());
    let lease = options.datastores[0].path.join("leases").join(HOST.to_string());
    let (stop, stopped) = oneshot::channel::<()>();
    let running = actix_rt::spawn(run(options, stopped.map(drop)));
    let counter = || lease::read(&lease).ok().flatten().map_or(0, |lease| lease.counter);
    until(async || counter() >= 2).await;
    let metrics = NodeMetrics::register(&berth_metrics::Registry::new()).unwrap();
    let attending = actix_rt::spawn(attend(directory.path().to_owned(), metrics.clone()));
    until(async || metrics.keeper_connected.get() == 1).await;
    let mut link =
        ControlLink::connect(&socket(directory.path()), &control::hello()).await.unwrap();
    let wanted = BTreeMap::from([
        ("away".to_owned(), LeaseState::Gone),
        ("here".to_owned(), LeaseState::Kept),
    ]);
    let judged = async {
        loop {
            let FromKeeper::Judged(judgement) = link.ask(&ToKeeper::Beat).await.unwrap();
            if judgement.leases == wanted {
                return judgement.node;
            }
            tokio::task::yield_now().await;
        }
    };
    let node = tokio::time::timeout(DEADLINE, judged).await.expect("the missing one is gone");
    assert_eq!(node, Some(NodeState::Alive));
    attending.abort();
    stop.send(()).unwrap();
    running.await.unwrap().unwrap();
}

#[test]
fn timers_that_make_no_sense_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let mut options = options(directory.path());
    options.validate().unwrap();
    options.timers.gone_after = 2;
    assert!(options.validate().unwrap_err().to_string().contains("timers.gone_after"));
}

use berth_metrics::node::NodeMetrics;
