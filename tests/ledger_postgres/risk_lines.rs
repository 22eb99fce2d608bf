//! What replicas know of the cache's risk is kept alike by both databases.

use stiver::ledger::Ledger;
use stiver::ledger::risk_lines::{RiskLine, TakeOver};

use super::open;
use super::postgres::PostgresServer;

/// Every way the lines of risk are written, and what is left of them.
async fn risk_lines_of(ledger: &Ledger) -> (Vec<RiskLine>, Vec<Option<String>>) {
    let lines = ledger.risk_lines();
    let line = |scope: &str, replica: &str| RiskLine {
        scope: scope.to_owned(),
        replica: replica.to_owned(),
        account: "{}".to_owned(),
        model_saved_at_ms: None,
        saved_at_ms: 1,
    };
    for (scope, replica) in
        [("shop/auto", "a"), ("shop/auto", "b"), ("shop/auto", "c"), ("*", "a"), ("検索/a", "b")]
    {
        lines.add(&line(scope, replica)).await.unwrap();
    }
    lines.add(&RiskLine { account: "again".to_owned(), ..line("*", "a") }).await.unwrap();
    let accounts =
        [("shop/auto".to_owned(), "{\"a\": 1}".to_owned()), ("gone/auto".to_owned(), "{}".to_owned())];
    assert_eq!(lines.save_accounts("a", &accounts, 2).await.unwrap(), ["gone/auto"]);
    assert!(lines.save_model(("shop/auto", "b"), "model of b", 3).await.unwrap());
    assert!(!lines.save_model(("shop/auto", "z"), "of nobody", 3).await.unwrap());

    let take = |gone: &RiskLine, model: Option<&str>| TakeOver {
        gone: gone.clone(),
        replica: "a".to_owned(),
        account: "both".to_owned(),
        model: model.map(str::to_owned),
        now_ms: 4,
    };
    let as_seen = RiskLine { saved_at_ms: 3, ..line("shop/auto", "b") };
    assert!(!lines.take_over(&take(&line("shop/auto", "b"), None)).await.unwrap(), "it gave a sign of life");
    assert!(!lines.take_over(&take(&line("検索/a", "b"), None)).await.unwrap(), "a has no such line");
    assert!(lines.take_over(&take(&as_seen, Some("model of both"))).await.unwrap());
    assert!(!lines.take_over(&take(&as_seen, None)).await.unwrap(), "it is taken");
    assert!(lines.take_over(&take(&line("shop/auto", "c"), None)).await.unwrap());
    lines.touch("b", 0).await.unwrap();

    let left = lines.lines().await.unwrap();
    let mut models = Vec::new();
    for line in &left {
        models.push(lines.model(&line.scope, &line.replica).await.unwrap());
    }
    (left, models)
}

#[tokio::test(flavor = "multi_thread")]
async fn both_databases_hand_a_line_of_risk_to_one_replica() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let sqlite = open(here.path(), None).await;
    let (mut ours, models) = risk_lines_of(&sqlite).await;
    sqlite.close().await.unwrap();
    let told = |line: &RiskLine| (line.scope.clone(), line.account.clone(), line.saved_at_ms);
    let expected = [("*", "{}", 1), ("shop/auto", "both", 4), ("検索/a", "{}", 0)]
        .map(|(scope, account, at_ms)| (scope.to_owned(), account.to_owned(), at_ms));
    assert_eq!(ours.iter().map(told).collect::<Vec<_>>(), expected);
    assert_eq!(models, [None, Some("model of both".to_owned()), None]);
    assert_eq!(ours[1].model_saved_at_ms, Some(4));

    let Some(server) = PostgresServer::start().await else { return };
    let postgres = open(there.path(), Some(&server.database().await)).await;
    let (mut theirs, _) = risk_lines_of(&postgres).await;
    postgres.close().await.unwrap();
    ours.sort_by_key(told);
    theirs.sort_by_key(told);
    assert_eq!(theirs, ours);
}
