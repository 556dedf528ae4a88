//! The switch as a whole, against a real socket and a real disk.

use super::*;
use berth_metrics::node::NodeMetrics;
use futures_util::FutureExt as _;
use tokio::sync::oneshot;

fn options(directory: &Path) -> Options {
    Options { run_directory: directory.to_owned(), state_directory: directory.to_owned() }
}

async fn connect(directory: &Path) -> ControlLink {
    let connecting = async {
        loop {
            match ControlLink::connect(&socket(directory), &control::hello()).await {
                Ok(link) => return link,
                Err(_) => tokio::task::yield_now().await,
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), connecting).await.expect("it listens")
}

fn configure(generation: u64) -> ToSwitch {
    ToSwitch::Configure(Configuration {
        generation: Generation(generation),
        state: NetworkState {},
    })
}

#[actix_rt::test]
async fn what_was_acknowledged_is_there_after_a_restart_and_older_state_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    for (round, generation) in [(0, 3), (1, 4)] {
        let (stop, stopped) = oneshot::channel::<()>();
        let running = actix_rt::spawn(run(options(directory.path()), stopped.map(drop)));
        let mut link = connect(directory.path()).await;
        let FromSwitch::Holds(held) = link.ask(&ToSwitch::Tell).await.unwrap() else {
            panic!("it tells what it holds");
        };
        assert_eq!(held.generation.0, [0, 3][round]);
        let kept: FromSwitch = link.ask(&configure(generation)).await.unwrap();
        assert_eq!(kept, FromSwitch::Kept { generation: Generation(generation) });
        let again: FromSwitch = link.ask(&configure(generation)).await.unwrap();
        assert_eq!(again, FromSwitch::Kept { generation: Generation(generation) });
        let older: FromSwitch = link.ask(&configure(generation - 1)).await.unwrap();
        assert!(matches!(older, FromSwitch::Refused { .. }), "{older:?}");
        stop.send(()).unwrap();
        running.await.unwrap().unwrap();
    }
}

#[actix_rt::test]
async fn a_node_gives_a_fresh_switch_its_state() {
    let directory = tempfile::tempdir().unwrap();
    let metrics = NodeMetrics::register(&berth_metrics::Registry::new()).unwrap();
    let attending = actix_rt::spawn(attend(directory.path().to_owned(), metrics.clone()));
    let (stop, stopped) = oneshot::channel::<()>();
    let running = actix_rt::spawn(run(options(directory.path()), stopped.map(drop)));
    let configured = async {
        while metrics.switch_generation.get() != 1 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), configured).await.expect("it is configured");
    attending.abort();
    stop.send(()).unwrap();
    running.await.unwrap().unwrap();
}

#[test]
fn a_damaged_state_is_named_and_not_overwritten() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("network"), b"damaged").unwrap();
    let (path, _) = Kept::load(directory.path()).err().unwrap();
    assert!(path.ends_with("network"));
}
