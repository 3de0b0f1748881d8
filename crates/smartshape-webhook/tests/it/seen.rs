//! Delivery keys and lease tokens, as a store of one's own uses them.

use smartshape_webhook::{DeliveryKey, LeaseToken, StoreError};

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
    assert_eq!(LeaseToken::new(u128::MAX - 1).number(), u128::MAX - 1);
}
