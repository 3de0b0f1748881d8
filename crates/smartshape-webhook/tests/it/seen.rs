//! Keys, holders and the store in memory, as a store of one's own or a caller of it meets them.

use std::time::Duration;

use smartshape_webhook::{ClaimState, DeliveryKey, Holder, MemoryStore, SeenStore, StoreError};

#[test]
fn keys_and_holders_come_back_out_of_a_database() {
    let key = DeliveryKey::new("u", "file_uploaded", "o");
    assert_eq!(DeliveryKey::from_bytes(*key.as_bytes()), key);
    let text = key.to_string();
    assert_eq!((text.parse(), format!("{key:?}")), (Ok(key), format!("DeliveryKey({text})")));
    let short = &text[1..];
    for wrong in ["", short, &format!("{text}0"), &format!("+{short}"), &format!("g{short}")] {
        let error = wrong.parse::<DeliveryKey>().unwrap_err();
        assert_eq!(error.to_string(), "a delivery's key has 32 hexadecimal digits", "{wrong}");
    }
    assert_eq!(StoreError::new("out of reach").to_string(), "out of reach");
    assert_eq!(Holder::new(u128::MAX - 1).number(), u128::MAX - 1);
}

#[tokio::test(start_paused = true)]
async fn what_is_given_back_or_forgotten_is_free() {
    let store = MemoryStore::new(2, Duration::from_secs(10));
    let key = DeliveryKey::new("u", "file_uploaded", "o");
    let claim = async |holder| store.claim(key, Holder::new(holder), Duration::from_secs(60)).await.unwrap();
    assert_eq!(claim(1).await, ClaimState::New);
    store.release(key, Holder::new(1)).await.unwrap();
    assert_eq!(claim(2).await, ClaimState::New);
    store.release(key, Holder::new(1)).await.unwrap();
    assert_eq!(claim(3).await, ClaimState::InFlight, "not the first one's to give back any more");
    store.complete(key, Holder::new(2)).await.unwrap();
    assert_eq!(claim(3).await, ClaimState::Done);
    tokio::time::advance(Duration::from_secs(20)).await;
    assert_eq!(claim(4).await, ClaimState::New, "forgotten, and so is the claim");
}
