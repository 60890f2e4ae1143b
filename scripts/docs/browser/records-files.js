// What the console reads from files of records, whatever shape they have, in the browser that shall read them.

const { assert } = require("./driver.js");

const NO_OBJECT = 'This is not an object, such as {"name": "value"}.';
// A file's name and text; then the lines with their values or problems, and the problem of the file as a whole.
const FILES = [
  [
    "a.jsonl",
    '{"a": 1}\n{"a": "}]\\""}\n\n{"b": [1, {"c": 2}]}',
    [
      [1, { a: 1 }],
      [2, { a: '}]"' }],
      [4, { b: [1, { c: 2 }] }],
    ],
  ],
  [
    "a.json",
    '{\n "a": 1\n}\n{\n "a": 2}',
    [
      [1, { a: 1 }],
      [4, { a: 2 }],
    ],
  ],
  [
    "a.json",
    '[{"a": "[1, 2]"},\n[2], "x,y",\n{"a": 2]',
    [
      [1, { a: "[1, 2]" }],
      [2, NO_OBJECT],
      [2, NO_OBJECT],
      [3, "This is not valid JSON."],
    ],
    "The array does not end; the last line is 3.",
  ],
  ["a.json", "[]\n x", [], "There is something behind the end of the array in line 1."],
  [
    "a.json",
    '{"a": 1}}',
    [
      [1, { a: 1 }],
      [1, "This is not valid JSON."],
    ],
  ],
  [
    "a.csv",
    '\uFEFFa;b\r\n"1;2";"two\r\nlines ""q"""\r\nalone\r\n3;4\r\n',
    [
      [2, { a: "1;2", b: 'two\r\nlines "q"' }],
      [4, "This line has 1 values, but there are 2 columns."],
      [5, { a: "3", b: "4" }],
    ],
  ],
  ["a.csv", "a\tb\n'=1\t'x\n", [[2, { a: "=1", b: "'x" }]]],
  ["a.csv", "a,a\n1,2", [], "The first line must name each column once."],
  ["a.csv", 'a,b\n"1,2', [], "A quote that begins in line 2 does not end."],
  ["a.csv", " \n", [], "The file is empty."],
];

async function readings(page) {
  for (const [name, text, entries, problem = null] of FILES) {
    const read = await page.evaluate(
      async ([file, content]) => (await import("/assets/records-files.js")).readFile(content, file),
      [name, text],
    );
    const found = read.entries.map(({ line, value, problem: why }) => [line, value ?? why]);
    assert.deepEqual([found, read.problem], [entries, problem], text);
  }
}

module.exports = { readings };
