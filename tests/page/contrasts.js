// Returns texts and controls whose contrast is too low. A function expression, evaluated in the page.
() => {
  // WCAG 2.2: relative luminance, and contrast ratio.
  const channels = (colour) => {
    const [r, g, b, a = 1] = colour.match(/[\d.]+/g).map(Number);
    return [r, g, b, a];
  };
  const over = ([r, g, b, a], [R, G, B]) => [r * a + R * (1 - a), g * a + G * (1 - a), b * a + B * (1 - a), 1];
  const linear = (value) => (value / 255 <= 0.04045 ? value / 255 / 12.92 : ((value / 255 + 0.055) / 1.055) ** 2.4);
  const luminance = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
  const ratio = (one, other) => {
    const [low, high] = [luminance(one), luminance(other)].sort((a, b) => a - b);
    return (high + 0.05) / (low + 0.05);
  };
  const lineage = (element) => (element ? [...lineage(element.parentElement), element] : []);
  const ground = (element) =>
    lineage(element).reduce((below, each) => over(channels(getComputedStyle(each).backgroundColor), below), [255, 255, 255, 1]);
  const seen = (colour, element) => {
    const opacity = lineage(element).reduce((product, each) => product * getComputedStyle(each).opacity, 1);
    const [r, g, b, a] = channels(colour);
    return over([r, g, b, a * opacity], ground(element));
  };
  const isVisible = (element) => element.checkVisibility({ visibilityProperty: true }) && element.getClientRects().length > 0;
  const found = [];
  const note = (what, element, foreground, background, needed) => {
    const value = ratio(foreground, background);
    if (value < needed) found.push({ what, text: element.textContent.slice(0, 40), id: element.id, ratio: value, needed });
    return value;
  };
  let lowest = Infinity;
  let texts = 0;
  const dialog = document.querySelector("dialog[open]");
  for (const element of (dialog ?? document.body).querySelectorAll("*")) {
    if (!isVisible(element)) continue;
    const style = getComputedStyle(element);
    const isText = [...element.childNodes].some((node) => node.nodeType === Node.TEXT_NODE && node.data.trim());
    if (isText && element.tagName !== "OPTION") {
      const pixels = parseFloat(style.fontSize);
      const isLarge = pixels >= 24 || (pixels >= 18.66 && style.fontWeight >= 700);
      texts += 1;
      lowest = Math.min(lowest, note("text", element, seen(style.color, element), ground(element), isLarge ? 3 : 4.5));
    }
    if (element.placeholder) {
      const placeholder = getComputedStyle(element, "::placeholder");
      const [r, g, b, a] = channels(placeholder.color);
      note("placeholder", element, over([r, g, b, a * placeholder.opacity], ground(element)), ground(element), 4.5);
    }
    if (element.matches("input, button, select, #close")) {
      // The edge, or the face, tells a control from what is around it.
      const around = ground(element.parentElement);
      const best = Math.max(ratio(seen(style.borderTopColor, element), around), ratio(ground(element), around));
      if (best < 3) found.push({ what: "edge", text: element.textContent, id: element.id, ratio: best, needed: 3 });
    }
  }
  return { found, lowest, texts };
}
