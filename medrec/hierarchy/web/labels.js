/** Labels broken into lines and cut where the room ends, remembered until the room changes. */
class Labels {
  constructor(pen, model) {
    Object.assign(this, { pen, model, made: new Map() });
  }

  /** Label of a node in at most `most` lines, and whether some of it had no room. */
  wrapped(node, room, most) {
    const key = `${Math.round(room)} ${most} ${this.pen.font}`;
    const kept = this.made.get(node);
    if (kept?.key === key) return kept;
    const lines = [];
    let rest = this.model.label(node);
    let cut = false;
    while (rest && lines.length < most) {
      const last = lines.length === most - 1;
      const whole = this.fitting(rest, room);
      let end = whole;
      if (whole < rest.length && !last) end = rest.lastIndexOf(" ", whole);
      if (end <= 0 || (last && end < rest.length)) {
        const dots = this.pen.measureText("\u2026").width;
        lines.push(`${rest.slice(0, this.fitting(rest, room - dots)).trimEnd()}\u2026`);
        const space = rest.indexOf(" ");
        end = last || space < 0 ? rest.length : space;
        cut = true;
      } else lines.push(rest.slice(0, end));
      rest = rest.slice(end).trimStart();
    }
    const made = { key, lines, cut };
    this.made.set(node, made);
    return made;
  }

  /** Number of characters from the beginning of a text that have room. */
  fitting(text, room) {
    const wide = this.pen.measureText(text).width;
    if (wide <= room) return text.length;
    let length = Math.min(text.length, Math.ceil(text.length * room / wide) + 3);
    while (length > 0 && this.pen.measureText(text.slice(0, length)).width > room) length--;
    return length;
  }
}
