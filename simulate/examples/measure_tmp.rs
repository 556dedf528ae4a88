use berth_simulate::*;
fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let get = |name: &str, default: &str| {
        args.iter().position(|a| a == name).map_or(default.to_owned(), |at| args[at + 1].clone())
    };
    let n = |name: &str, default: &str| get(name, default).parse::<u32>().unwrap();
    let strategy = match get("--strategy", "spread").as_str() {
        "pack" => berth_model::Strategy::Pack,
        "balance" => berth_model::Strategy::Balance,
        _ => berth_model::Strategy::Spread,
    };
    let trace = args.iter().position(|a| a == "--trace").map(|at| args[at + 1].parse().unwrap());
    let host = get("--host", "40,112");
    let (c, g) = host.split_once(',').unwrap();
    let host = host_size(c.parse().unwrap(), g.parse().unwrap());
    let seed = u64::from(n("--seed", "1"));
    let (hosts, vms) = (n("--hosts", "1000"), n("--vms", "10000"));
    let me = std::env::current_exe().unwrap();
    if args[0] == "bench" {
        actix_rt::System::new()
            .block_on(place::run_replica(std::path::Path::new(&args[2])))
            .unwrap();
        return;
    }
    let sheet = match args[0].as_str() {
        "plan" => plan::run(&plan::Options {
            hosts,
            vms,
            seed,
            strategy,
            batch: n("--batch", "256"),
            planners: n("--planners", "1"),
            trace,
            host,
            only: get("--only", ""),
        })
        .unwrap(),
        "rules" => rules::run(&rules::Options {
            hosts,
            vms,
            seed,
            strategy,
            batch: n("--batch", "256"),
            trace,
        })
        .unwrap(),
        "failover" => failover::run(failover::Options { hosts, vms, seed }),
        "drs" => drs::run(drs::Options { hosts, vms, seed }),
        "pack" => pack::run(&pack::Options {
            trace,
            first: n("--first", "50000"),
            host,
            batch: n("--batch", "64"),
            moves: berth_model::Permille(n("--moves", "10") * 10),
            seed,
        })
        .unwrap(),
        "place" => actix_rt::System::new()
            .block_on(place::run(
                place::Options {
                    hosts,
                    vms,
                    replicas: n("--replicas", "3"),
                    batch: n("--batch", "1000"),
                    in_flight: n("--in-flight", "1000"),
                    planners: n("--planners", "1"),
                    http: false,
                    cells: n("--cells", "1"),
                    seed,
                },
                &me,
                std::path::Path::new("/tmp"),
            ))
            .unwrap(),
        _ => panic!(),
    };
    println!("{}", sheet.text());
}
