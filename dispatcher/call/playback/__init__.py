"""What the caller hears: replies and filler on their way to AVR Core, and the clock that times them."""
