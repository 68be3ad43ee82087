use super::*;

#[test]
fn a_store_opens_again_with_the_same_epoch() {
    let directory = tempfile::tempdir().unwrap();
    let epoch = Store::open(directory.path()).unwrap().server_epoch().unwrap();
    assert_eq!(Store::open(directory.path()).unwrap().server_epoch().unwrap(), epoch);
}
