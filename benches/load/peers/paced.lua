-- Keeps wrk busy for some 15 µs per request, so that it is the slowest of all: then every proxy is asked at the same
-- pace, and none of them pays for waking a client that waits for it.
local spins = 6000

request = function()
  local x = 0.5
  for i = 1, spins do
    x = x * 1.0000001 + i
  end
  if x < 0 then
    print(x) -- never, but the loop has to stay
  end
  return wrk.format("GET")
end
