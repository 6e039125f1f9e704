// Texts of numbers, and the making of elements.

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB"];

export function bytes(count) {
  let unit = 0;
  while (count >= 1024 && unit < UNITS.length - 1) {
    count /= 1024;
    unit += 1;
  }
  return `${count >= 100 || unit === 0 ? Math.round(count) : count.toFixed(1)} ${UNITS[unit]}`;
}

export function seconds(count) {
  if (count < 0.0995) return `${Math.max(0, count * 1000).toFixed(count < 0.00995 ? 1 : 0)} ms`;
  if (count < 60) return `${count.toFixed(1)} s`;
  return `${Math.floor(count / 60)} min ${Math.round(count % 60)} s`;
}

export function several(count, one, more = `${one}s`) {
  return `${count} ${count === 1 ? one : more}`;
}

export function element(tag, attributes = {}, ...content) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...content);
  return made;
}

export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

export function setAttribute(node, name, value) {
  if (node.getAttribute(name) !== value) node.setAttribute(name, value);
}

// Brings the children of a node in line with a list, and keeps those that stay: focus and transitions survive.
export function keep(parent, items, key, create, update) {
  const there = new Map();
  for (const child of parent.children) there.set(child.dataset.key, child);
  let after = null;
  for (const item of items) {
    const name = String(key(item));
    let child = there.get(name);
    if (child) {
      there.delete(name);
    } else {
      child = create(item);
      child.dataset.key = name;
    }
    const next = after ? after.nextElementSibling : parent.firstElementChild;
    if (child !== next) parent.insertBefore(child, next);
    update(child, item);
    after = child;
  }
  for (const child of there.values()) child.remove();
}
