// Reads and writes the files of records: JSON (an array, or one value after the other, as scripts/load-movies.sh takes
// it) and CSV (RFC 4180, with a header line). Every entry is told with its line, so that what is refused can be found.

// Reads a file's text into `{ entries, problem }`. Each entry is `{ line, value }`, or `{ line, problem }` if it cannot be
// read; `problem` says why the file as a whole cannot, or null. For CSV, the values are objects of texts, and `names` are
// the columns.
export function readFile(text, name) {
  const whole = text.replace(/^\uFEFF/, "");
  const isJson = /^\s*[[{]/.test(whole) && !/\.csv$/i.test(name);
  if (whole.trim() === "") {
    return { entries: [], problem: "The file is empty." };
  }
  return isJson ? readJson(whole) : readCsv(whole);
}

// --- JSON ---

// Finds the values of an array, or of the file if it is none, without reading them: what is wrong with one of them must
// not hide the others.
function readJson(text) {
  const isArray = /^\s*\[/.test(text);
  const entries = [];
  // Where the value begins that is being read, how deep in it, and whether in a text.
  let [begin, depth, isText, line, beginLine] = [-1, isArray ? -1 : 0, false, 1, 1];
  const finish = (end) => {
    if (begin >= 0) {
      entries.push({ line: beginLine, ...parsed(text.slice(begin, end)) });
      begin = -1;
    }
  };
  for (let index = 0; index < text.length; index += 1) {
    const character = text[index];
    if (character === "\n") {
      line += 1;
    }
    if (isText) {
      if (character === "\\") {
        index += 1;
      } else if (character === '"') {
        isText = false;
      }
    } else if (depth === -1) {
      // The array's own bracket.
      depth = character === "[" ? 0 : -1;
    } else if (depth === 0 && (character === "," || (isArray && character === "]"))) {
      finish(index);
      if (character === "]") {
        const rest = text.slice(index + 1).trim();
        return { entries, problem: rest ? `There is something behind the end of the array in line ${line}.` : null };
      }
    } else if (begin >= 0 || !/\s/.test(character)) {
      if (begin < 0) {
        [begin, beginLine] = [index, line];
      }
      isText = character === '"';
      const step = "{[".includes(character) ? 1 : "}]".includes(character) ? -1 : 0;
      depth = Math.max(0, depth + step);
      if (depth === 0 && step < 0) {
        finish(index + 1);
      }
    }
  }
  finish(text.length);
  return { entries, problem: isArray ? `The array does not end; the last line is ${line}.` : null };
}

function parsed(text) {
  try {
    const value = JSON.parse(text);
    const isRecord = typeof value === "object" && value !== null && !Array.isArray(value);
    return isRecord ? { value } : { problem: 'This is not an object, such as {"name": "value"}.', text };
  } catch {
    return { problem: "This is not valid JSON.", text };
  }
}

// --- CSV ---

function readCsv(text) {
  const first = text.slice(0, text.search(/\r?\n|$/));
  // Spreadsheets write what separates lists in their language.
  const separator = [",", ";", "\t"].toSorted((one, other) => first.split(other).length - first.split(one).length)[0];
  const rows = csvRows(text, separator);
  if (rows.unclosed) {
    return { entries: [], problem: `A quote that begins in line ${rows.unclosed} does not end.` };
  }
  const [head, ...others] = rows;
  const names = head.cells.map((name) => unguarded(name).trim());
  if (names.some((name) => name === "") || new Set(names).size < names.length) {
    return { entries: [], problem: "The first line must name each column once." };
  }
  const entries = others.map(({ line, cells }) =>
    cells.length === names.length
      ? { line, value: Object.fromEntries(names.map((name, index) => [name, unguarded(cells[index])])) }
      : {
          line,
          problem: `This line has ${cells.length} values, but there are ${names.length} columns.`,
          text: cells.join(separator),
        },
  );
  return { entries, names, problem: null };
}

function csvRows(text, separator) {
  const rows = [];
  let [cells, cell, isQuoted, line, beginLine, quoteLine] = [[], "", false, 1, 1, 0];
  const endRow = () => {
    cells.push(cell);
    // A line without anything is no record.
    if (cells.length > 1 || cell !== "") {
      rows.push({ line: beginLine, cells });
    }
    [cells, cell] = [[], ""];
  };
  for (let index = 0; index < text.length; index += 1) {
    const character = text[index];
    if (character === "\n") {
      line += 1;
    }
    if (isQuoted) {
      if (character !== '"') {
        cell += character;
      } else if (text[index + 1] === '"') {
        cell += '"';
        index += 1;
      } else {
        isQuoted = false;
      }
    } else if (character === '"' && cell === "") {
      [isQuoted, quoteLine] = [true, line];
    } else if (character === separator) {
      cells.push(cell);
      cell = "";
    } else if (character === "\n") {
      endRow();
      beginLine = line;
    } else if (character !== "\r" || text[index + 1] !== "\n") {
      cell += character;
    }
  }
  endRow();
  rows.unclosed = isQuoted ? quoteLine : 0;
  return rows;
}

// A spreadsheet executes a text that begins like a formula. An apostrophe in front keeps it from that, and is taken away
// when the file is imported again.
const FORMULA = /^'*[=+\-@\t\r]/;
const guarded = (text) => (FORMULA.test(text) ? `'${text}` : text);
const unguarded = (text) => (text.startsWith("'") && FORMULA.test(text) ? text.slice(1) : text);

// A line of a CSV file, with its end. Texts are guarded; numbers are written as they are.
export function csvLine(values) {
  const cells = values.map((value) => {
    const text = typeof value === "number" ? String(value) : guarded(String(value));
    return /[",;\t\r\n]/.test(text) || text !== text.trim() ? `"${text.replaceAll('"', '""')}"` : text;
  });
  return `${cells.join(",")}\r\n`;
}
