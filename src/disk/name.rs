//! The order of names, and which names Linux can hold.

use std::cmp::Ordering;

/// The order in which the C driver keeps entries, and by which it knows when to end a search. Bytes
/// compare as usual, but if one name is a prefix of the other, the longer one comes first.
pub fn cmp(a: &[u8], b: &[u8]) -> Ordering {
    let n = a.len().min(b.len());
    a[..n].cmp(&b[..n]).then(b.len().cmp(&a.len()))
}

/// The first 16 bytes of a name as a number. If the numbers of two names differ, the names have the
/// same order ([`cmp`]); if not, the rest of the names decides.
pub fn head(name: &[u8]) -> u128 {
    // a name that ends here comes after every longer one
    let mut bytes = [0xff; 16];
    let n = name.len().min(bytes.len());
    bytes[..n].copy_from_slice(&name[..n]);
    u128::from_be_bytes(bytes)
}

/// Whether the kernel can hold this name: it is not empty, `.` or `..`, and contains neither `/`
/// nor NUL.
pub fn is_presentable(name: &[u8]) -> bool {
    !matches!(name, b"" | b"." | b"..") && !name.iter().any(|&b| b == b'/' || b == 0)
}

/// A name similar to this one that the kernel can hold.
pub fn presentable(name: &[u8]) -> Vec<u8> {
    match name {
        b"" => b"unnamed".to_vec(),
        b"." => b"dot".to_vec(),
        b".." => b"dotdot".to_vec(),
        _ => name.iter().map(|&b| if b == b'/' || b == 0 { b'_' } else { b }).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_longer_name_comes_before_its_prefix() {
        let mut names: Vec<&[u8]> = vec![b"a", b"b", b"ab", b"abcd", b"abc"];
        names.sort_by(|a, b| cmp(a, b));
        assert_eq!(names, [&b"abcd"[..], b"abc", b"ab", b"a", b"b"]);
    }

    #[test]
    fn heads_never_contradict_the_order_of_names() {
        let long = b"a name of more than sixteen bytes";
        let mut names: Vec<Vec<u8>> = (0..long.len()).map(|n| long[..n].to_vec()).collect();
        for end in [0, b'a', b'z', 0xff] {
            let longer = |name: &Vec<u8>| [name, &[end][..]].concat();
            names.extend(names.iter().map(longer).collect::<Vec<_>>());
        }
        let mut decided = 0;
        for (a, b) in names.iter().flat_map(|a| names.iter().map(move |b| (a, b))) {
            let order = head(a).cmp(&head(b));
            assert!(order.is_eq() || order == cmp(a, b), "{a:?} {b:?}");
            decided += usize::from(order.is_ne());
        }
        assert!(decided > names.len() * names.len() / 2);
    }
}
