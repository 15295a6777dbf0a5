/** A set of strings that answers which of them is the longest at a place in a text. */
export class PrefixTrie {
  readonly #root: TrieNode = { children: new Map(), isEnd: false };

  constructor(strings: Iterable<string>) {
    for (const string of strings) {
      if (string === '') continue;
      let node = this.#root;
      for (let i = 0; i < string.length; i++) {
        const unit = string.charCodeAt(i);
        let child = node.children.get(unit);
        if (child === undefined) node.children.set(unit, (child = { children: new Map(), isEnd: false }));
        node = child;
      }
      node.isEnd = true;
    }
  }

  /** Length in UTF-16 units of the longest string that text holds at start; 0 when none. */
  longestMatch(text: string, start: number): number {
    let node = this.#root;
    let longest = 0;
    for (let i = start; i < text.length; i++) {
      const child = node.children.get(text.charCodeAt(i));
      if (child === undefined) break;
      node = child;
      if (node.isEnd) longest = i + 1 - start;
    }
    return longest;
  }
}

interface TrieNode {
  readonly children: Map<number, TrieNode>;
  isEnd: boolean;
}
