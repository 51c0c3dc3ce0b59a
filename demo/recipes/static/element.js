// An order as the element that _order.html makes of it on the server.

export function element({ id, customer, quantity, item, status }) {
  const [line, who, what, how] = ["li", "b", "span", "i"].map((name) => document.createElement(name));
  line.id = `orders-${id}`;
  who.textContent = customer;
  what.textContent = `${quantity} × ${item}`;
  how.textContent = status;
  line.append(who, " ", what, " ", how);
  return line;
}
