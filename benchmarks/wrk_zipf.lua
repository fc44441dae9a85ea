-- wrk script: POST to models drawn by Zipf's law and keep a line for each answer. Arguments: a file
-- with the models' names, the most used first; the exponent; a seed; the file for the lines
-- ("rank status microseconds"); the mean pause of a connection between two requests, in ms.
-- A model answers with its body, so the body carries rank and time: wrk does not tell which request
-- an answer belongs to.
local ffi = require("ffi")
ffi.cdef [[
  typedef struct { long seconds; long nanoseconds; } zipf_time;
  int clock_gettime(int clock, zipf_time *time);
]]
local MONOTONIC = 1
local time = ffi.new("zipf_time")
local paths, shares, log = {}, {}, nil

local function now()
  ffi.C.clock_gettime(MONOTONIC, time)
  return tonumber(time.seconds) * 1e6 + tonumber(time.nanoseconds) / 1e3
end

local function draw()
  local wanted, low, high = math.random(), 1, #shares
  while low < high do
    local middle = math.floor((low + high) / 2)
    if shares[middle] < wanted then low = middle + 1 else high = middle end
  end
  return low
end

function init(args)
  wrk.headers["Content-Type"] = "application/octet-stream"
  local exponent, sum = tonumber(args[2]), 0
  for name in io.lines(args[1]) do
    table.insert(paths, "/models/" .. name .. "/invoke")
    sum = sum + 1 / (#paths) ^ exponent
    table.insert(shares, sum)
  end
  for rank = 1, #shares do shares[rank] = shares[rank] / sum end
  math.randomseed(tonumber(args[3]))
  log = assert(io.open(args[4], "w"))
  local pause = tonumber(args[5])
  if pause > 0 then
    delay = function() return math.floor(-pause * math.log(1 - math.random()) + 0.5) end
  end
end

function request()
  local rank = draw()
  return wrk.format("POST", paths[rank], nil, string.format("%d %.0f", rank, now()))
end

function response(status, headers, body)
  local rank, began = body:match("^(%d+) (%d+)$")
  local took = began and now() - tonumber(began) or 0
  log:write(string.format("%d %d %.0f\n", rank or 0, status, took))
end

function done(summary)
  local errors = summary.errors
  io.write(string.format(
    '\n{"microseconds": %d, "broken": %d}\n', summary.duration,
    errors.connect + errors.read + errors.write + errors.timeout))
end
