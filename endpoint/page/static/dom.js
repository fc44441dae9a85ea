/** Elements that are made once and changed only where something differs. Text is never markup. */

/** A new element with a class and a text. */
export function make(tag, className = "", text = "") {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text) node.textContent = text;
  return node;
}

/** A new element of SVG. */
export function draw(tag, attributes) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  return node;
}

/** Have an element say this. */
export function say(node, text) {
  if (node.said !== text) {
    node.said = text;
    node.textContent = text;
  }
}

/** Have an element say this, all of it also where it is cut off. */
export function sayWhole(node, text) {
  if (node.said !== text) node.title = text;
  say(node, text);
}

/** Have an attribute be this; without a value it goes. */
export function set(node, name, value) {
  if (value == null) node.removeAttribute(name);
  else if (node.getAttribute(name) !== String(value)) node.setAttribute(name, value);
}

/** Children of an element, one for each item, in the order of the items. */
export class Children {
  /** `create(item)` makes a view: its `node`, and `show(item)`, which brings it up to date. */
  constructor(parent, create) {
    this.parent = parent;
    this.create = create;
    this.views = new Map();
  }

  /** Show these items; a child whose key is gone is removed. */
  show(items, keyOf) {
    const keys = new Set(items.map(keyOf));
    for (const [key, view] of this.views) {
      if (!keys.has(key)) {
        view.node.remove();
        this.views.delete(key);
      }
    }
    let next = this.parent.firstElementChild;
    for (const item of items) {
      const key = keyOf(item);
      let view = this.views.get(key);
      if (view === undefined) {
        view = this.create(item);
        this.views.set(key, view);
      }
      if (view.node === next) next = next.nextElementSibling;
      else this.parent.insertBefore(view.node, next);
      view.show(item);
    }
  }
}
