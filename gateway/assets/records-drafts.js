// What was typed into a form and is not saved: kept when the user leaves by Back, by a link or by reload, in the tab's
// storage if the browser allows it, else as long as the page lives.

const PREFIX = "draft ";
const kept = new Map();

function storage(use) {
  try {
    return use(sessionStorage);
  } catch {
    return null;
  }
}

// The draft of a form, or null: `{ values, base, etag }`, the texts of its fields now and before, and the entity tag
// that belongs to the latter.
export function draftOf(name) {
  const text = kept.get(name) ?? storage((tab) => tab.getItem(PREFIX + name));
  try {
    return text ? JSON.parse(text) : null;
  } catch {
    return null;
  }
}

export function keepDraft(name, draft) {
  const text = JSON.stringify(draft);
  kept.set(name, text);
  storage((tab) => tab.setItem(PREFIX + name, text));
}

export function dropDraft(name) {
  kept.delete(name);
  storage((tab) => tab.removeItem(PREFIX + name));
}
