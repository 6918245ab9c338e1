//! Texts for a first try: one that the default model knows well, one that it knows less, and one that nobody can guess.

const PROSE = `Alice was beginning to get very tired of sitting by her sister on the bank, and of having nothing to do: once or twice she had peeped into the book her sister was reading, but it had no pictures or conversations in it, "and what is the use of a book," thought Alice "without pictures or conversations?"

So she was considering in her own mind (as well as she could, for the hot day made her feel very sleepy and stupid), whether the pleasure of making a daisy-chain would be worth the trouble of getting up and picking the daisies, when suddenly a White Rabbit with pink eyes ran close by her.

There was nothing so very remarkable in that; nor did Alice think it so very much out of the way to hear the Rabbit say to itself, "Oh dear! Oh dear! I shall be late!" (when she thought it over afterwards, it occurred to her that she ought to have wondered at this, but at the time it all seemed quite natural); but when the Rabbit actually took a watch out of its waistcoat-pocket, and looked at it, and then hurried on, Alice started to her feet, for it flashed across her mind that she had never before seen a rabbit with either a waistcoat-pocket, or a watch to take out of it, and burning with curiosity, she ran across the field after it, and fortunately was just in time to see it pop down a large rabbit-hole under the hedge.
`;

const CODE = `/// Returns the longest run of equal elements.
fn longest_run<T: PartialEq>(values: &[T]) -> &[T] {
    let mut best = &values[..0];
    let mut start = 0;
    for end in 1..=values.len() {
        if end == values.len() || values[end] != values[start] {
            if end - start > best.len() {
                best = &values[start..end];
            }
            start = end;
        }
    }
    best
}

#[test]
fn finds_the_longest_run() {
    assert_eq!(longest_run(&[1, 2, 2, 3, 3, 3, 1]), &[3, 3, 3]);
    assert_eq!(longest_run::<u8>(&[]), &[] as &[u8]);
}
`;

/** Returns hexadecimal digits that look random, the same each time. */
function digits(): string {
  let state = 7;
  const line = () =>
    Array.from({ length: 8 }, () => {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      return state.toString(16).padStart(8, "0");
    }).join(" ");
  return `${Array.from({ length: 8 }, line).join("\n")}\n`;
}

export const SAMPLES: { name: string; text: string }[] = [
  { name: "Prose", text: PROSE },
  { name: "Code", text: CODE },
  { name: "Random digits", text: digits() },
];
